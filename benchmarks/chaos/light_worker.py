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
from workers.nursery import Nursery
from workers.parent import Child

CHILD = Path(__file__).with_name("light_child.py")


class LightNursery(Nursery):
    """Without a template: these processes start at once."""

    def prepare(self) -> None:
        """Nothing is needed."""

    def take(self) -> Child:
        """A process for one job."""
        program = (sys.executable, "-I", "-S", str(CHILD))
        arguments = (os.environ["CHAOS_RESULT"], os.environ["CHAOS_CHILD_SECONDS"])
        return Child(self._limits, program + arguments, self._users)


workers.tasks.Nursery = LightNursery  # type: ignore[misc]

if __name__ == "__main__":
    sys.argv[0] = "celery"
    main()
