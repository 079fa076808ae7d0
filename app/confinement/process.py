"""Flags of the process itself: death with its parent, no new privileges, nobody looks inside."""

import os
import signal
import sys

from app.confinement.kernel import LINUX, prctl

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, however that happens (Linux).

    The kernel forgets this wish when the user changes: ask again after that.

    Args:
        parent: its process id, where it is known; a parent that is gone already ends this process.
    """
    if not LINUX:
        return
    parent = parent or os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent was gone before the kernel knew.
        sys.exit(1)


def no_new_privileges() -> None:
    """No program gives this process more rights; Landlock and seccomp ask for it. Needs Linux."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """No core dumps, and /proc/<pid> is closed to other processes of the same user."""
    prctl(PR_SET_DUMPABLE, 0)
