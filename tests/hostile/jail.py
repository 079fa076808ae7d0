"""Jobs that attack, in copies of the real template: its own `main`, with other work than pruning.

Nothing of this can be reached in production: there `main` gets no work from outside.
"""

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.adapters.database import JobRow
from app.domain.job import Attempt, Status
from tests.workers.results import RESULTS
from tests.workers.test_supervise import World
from workers.confinement import Limits
from workers.nursery import Template
from workers.parent import Child
from workers.supervise import Supervisor
from workers.users import Users

START = """
import ctypes, errno, os, socket, subprocess, sys, threading, time
from pathlib import Path
from workers import child, template

PARAMETERS = {parameters!r}
METRICS = {metrics!r}

def work(order, reporter):
    out, scratch = Path(order.out), Path(order.scratch)
    folder = out.parent
    libc = ctypes.CDLL(None, use_errno=True)
{body}
    return METRICS, []

def load():
{imports}
    return work

template.main(load)
"""


class Jail(World):
    """A database, a store, and children that get their own users where this process is root."""

    limits: Limits | None = None

    def program(self, body: str, imports: str = "pass", **parameters: Any) -> tuple[str, ...]:
        code = START.format(
            body=textwrap.indent(textwrap.dedent(body), "    "),
            imports=textwrap.indent(imports, "    "),
            parameters=parameters,
            metrics=RESULTS["prune"],
        )
        return (sys.executable, "-I", "-c", code)

    def carry_out(self, attempt: Attempt, program: tuple[str, ...]) -> Status | None:
        with self.child(program) as child:
            return Supervisor(
                self.database, self.store, self.settings, attempt, child, lambda: False
            ).run()

    @contextmanager
    def child(self, program: tuple[str, ...]) -> Iterator[Child]:
        limits = self.limits or Limits.of(self.settings)
        template = Template(program)
        child = Child(limits, template.copy, Users.of(self.settings))
        try:
            yield child
        finally:
            child.close()
            template.close()
            assert not child.folder.exists()

    def failure(self, body: str, **parameters: Any) -> tuple[str, str]:
        """Kind and words of the error that a job with this body ends with."""
        attempt = self.claim()
        assert self.carry_out(attempt, self.program(body, **parameters)) is Status.FAILED
        assert {file.name for file in self.jobs.artifacts(attempt.job)} <= {"log.txt"}
        error = self.jobs.get(attempt.job).error
        return error.type.removeprefix("/problems/"), error.detail

    def result(self, program: tuple[str, ...]) -> dict[str, Any]:
        """The metrics that a job gives back."""
        attempt = self.claim()
        ended = self.carry_out(attempt, program)
        assert ended is Status.SUCCEEDED, self.jobs.get(attempt.job).error
        with self.database.read() as session:
            return dict(session.get_one(JobRow, attempt.job).result or {})


def jail(folder: Path, **settings: Any) -> Jail:
    made = Jail(folder)
    made.settings = made.settings.model_copy(update=settings)
    return made
