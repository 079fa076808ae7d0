"""A worker whose jobs' processes are `light_child`: the same Celery application, another program.

Only this launcher exchanges it; the service itself knows no such switch. The file with the result
that they all tell of is named by an environment variable of the benchmark's.
"""

import os
import sys
from pathlib import Path

from celery import bin as celery_bin  # noqa: F401  (the command imports the application)
from celery.__main__ import main

import workers.tasks
from workers.spare import Child, Nursery

CHILD = Path(__file__).with_name("light_child.py")


class LightNursery(Nursery):
    """Its spares are ready at once."""

    def prepare(self) -> None:
        """Start a spare unless one waits."""
        if self._spare is None or not self._spare.alive():
            self.close()
            program = (sys.executable, "-I", "-S", str(CHILD))
            arguments = (os.environ["CHAOS_RESULT"], os.environ["CHAOS_CHILD_SECONDS"])
            self._spare = Child(self._limits, program + arguments, users=self._users)


workers.tasks.Nursery = LightNursery  # type: ignore[misc]

if __name__ == "__main__":
    sys.argv[0] = "celery"
    main()
