"""Each mechanism that confines jobs, tried as a worker tries it at its start."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from pydantic import ValidationError

from app.doctor.check import Check, State, check
from app.domain.confinement import REQUIRED, TITLES, Confinement

PROGRAM = (sys.executable, "-m", "workers.probe")
"""A process: the command line's side imports nothing of the workers."""
SECONDS = 90.0


def confinement(program: tuple[str, ...] = PROGRAM) -> Iterator[Check]:
    """A line a mechanism."""
    if find_spec("workers") is None:
        yield check("confinement", "warn", "no workers are installed here", "Ask a worker's host.")
        return
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, check=True)
        found = Confinement.model_validate_json(done.stdout)
    except (OSError, subprocess.SubprocessError, ValidationError) as error:
        yield check(
            "confinement",
            "fail",
            f"could not be tried: {str(error)[:300]}",
            "Workers try the same at their start; their log says more.",
        )
        return
    for name, title in TITLES.items():
        one = found.of(name)
        needed = name in REQUIRED and not found.overridden
        advice = (
            "Workers here refuse jobs: see Confinement in docs/architecture.md."
            if needed
            else "Jobs run all the same, and their results say so."
        )
        state: State = "ok" if one.active else "fail" if needed else "warn"
        yield check(f"confinement: {title}", state, one.detail, advice)
