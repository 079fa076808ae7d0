"""Whether the confinement holds: a throw-away process tries what jobs may not do.

`python -m workers.confinement.trial '<Confines as JSON>'`: confines itself as a job's process does,
without TensorFlow, tries, and writes the line that a job's process would write.
"""

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from app.domain.confinement import Confinement, Mechanism
from workers.confinement.sequence import Confines, enter, seal

FORBIDDEN_FILE = "/etc/passwd"
"""Everybody may read it where nothing confines."""
ELSEWHERE = ("192.0.2.1", 9)
"""An address of nobody [RFC 5737]; UDP only looks for a way there and sends nothing."""
DENIED = (errno.EPERM, errno.EACCES)
NOT_ROOT = (errno.EPERM, errno.EINVAL)
"""A user namespace without a root of its own says that there is no such user."""


def main() -> None:
    """Try, and tell."""
    from workers.protocol import Ready, Reporter

    confines = Confines.model_validate_json(sys.argv[1])
    entered = enter(confines)
    network = _tried(entered.network, [("a way out", _denied(_way_out, (errno.ENETUNREACH,)))])
    sealed = seal(entered).model_copy(update={"network": network})
    found = tried(sealed, Path(confines.folder))
    Reporter(os.fdopen(os.dup(1), "w", encoding="utf-8")).send(Ready(confinement=found))


def tried(told: Confinement, folder: Path) -> Confinement:
    """Mechanisms that say they are active and do not hold are not active."""
    return told.model_copy(
        update={
            "user": _tried(told.user, [("becoming root", _denied(lambda: os.setuid(0), NOT_ROOT))]),
            "landlock": _tried(
                told.landlock,
                [
                    ("reading elsewhere", _denied(lambda: open(FORBIDDEN_FILE).close(), DENIED)),
                    ("writing elsewhere", _denied((folder / "new").touch, DENIED)),
                    ("making links", _denied(lambda: _link(folder), DENIED)),
                    ("writing in its own folder", _allowed((folder / "scratch" / "new").touch)),
                ],
            ),
            "seccomp": _tried(
                told.seccomp,
                [
                    ("opening a socket", _denied(lambda: socket.socket().close(), DENIED)),
                    ("making a process", _denied(_process, DENIED)),
                    ("starting a program", _denied(_program, DENIED)),
                    ("signalling its parent", _denied(lambda: os.kill(os.getppid(), 0), DENIED)),
                    ("starting a thread", _allowed(_thread)),
                ],
            ),
        }
    )


def _tried(told: Mechanism, trials: list[tuple[str, str]]) -> Mechanism:
    wrong = [f"{what} {came}" for what, came in trials if came]
    if not told.active or not wrong:
        return told
    return Mechanism(detail=f"{told.detail}, but when tried {', '.join(wrong)}")


def _denied(action: Callable[[], object], numbers: tuple[int, ...]) -> str:
    """Empty where the action fails with one of these error numbers, else what came instead."""
    try:
        action()
    except OSError as error:
        return "" if error.errno in numbers else f"failed with {error.strerror}"
    return "was possible"


def _allowed(action: Callable[[], object]) -> str:
    try:
        action()
    except (OSError, RuntimeError) as error:
        return f"failed: {error}"
    return ""


def _way_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)


def _link(folder: Path) -> None:
    (folder / "scratch" / "link").symlink_to(FORBIDDEN_FILE)


def _process() -> None:
    if os.fork() == 0:
        os._exit(0)


def _program() -> None:
    # The filter denies before anybody looks whether the file is there; a program that did start
    # would take this process over.
    os.execv("/nonexistent", ["nothing"])  # noqa: S606


def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
