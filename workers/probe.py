"""What this worker can confine a job's process by: found out once, by trying it."""

import sys
import time

from app.domain.confinement import Confinement, Mechanism
from app.settings import Settings
from workers.confinement import Limits
from workers.parent import Child
from workers.protocol import Ready, parse
from workers.users import Users

PROGRAM = (sys.executable, "-I", "-m", "workers.confinement.trial")
SECONDS = 60.0


def probe(settings: Settings, program: tuple[str, ...] = PROGRAM) -> Confinement:
    """Have a throw-away process try each mechanism; what it cannot tell is not active."""
    child = Child(Limits.of(settings), program, Users.of(settings))
    try:
        found = _told(child)
    except ValueError as error:
        found = _unknown(f"the trial wrote what it must not: {error}")
    finally:
        child.close()
    overridden = settings.allow_unconfined and bool(found.missing)
    return found.model_copy(update={"overridden": overridden})


def _told(child: Child) -> Confinement:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        lines = child.read(0.2)
        if lines is None:
            words = child.log.read_text(errors="replace")[-300:].strip()
            return _unknown(f"the trial ended with {child.exit_status()}: {words}")
        for line in lines:
            message = parse(line)
            if isinstance(message, Ready):
                return message.confinement
    return _unknown(f"the trial said nothing within {SECONDS:g} s")


def _unknown(why: str) -> Confinement:
    nothing = Mechanism(detail=why)
    return Confinement(user=nothing, landlock=nothing, seccomp=nothing, network=nothing)


if __name__ == "__main__":
    # `secateur doctor` asks from outside: the command line imports nothing of the workers.
    sys.stdout.write(probe(Settings()).model_dump_json() + "\n")
