"""Runs tests as an ordinary user: `python -m tests.hostile.ordinary <uid> <arguments of pytest>`.

Started by root. Where Python lies in a folder that only root may enter, a mount namespace of this
process' own puts the interpreter's folder into an open one at the same place.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from app.confinement.kernel import call

CLONE_NEWNS = 0x00020000


def open_up(needed: Path) -> None:
    """Let everybody reach a folder, in this process' own view of the file system."""
    hidden = [part for part in needed.parents if not part.stat().st_mode & 0o001]
    if not hidden:
        return
    call("unshare", ctypes.c_int(CLONE_NEWNS))
    aside = tempfile.mkdtemp()
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "--bind", str(needed), aside],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(hidden[-1])],
        ["mkdir", "-p", str(needed)],
        ["mount", "--bind", aside, str(needed)],
    ):
        subprocess.run(command, check=True)


def main() -> None:
    uid, *arguments = sys.argv[1:]
    open_up(Path(sys.base_prefix).resolve())
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    environment = os.environ | {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    os.execve(sys.executable, command, environment)


if __name__ == "__main__":
    main()
