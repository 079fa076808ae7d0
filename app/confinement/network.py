"""A network namespace with nothing in it, not even a loopback that is up."""

import ctypes
import errno
import os
from pathlib import Path

from app.confinement.kernel import LINUX, call
from app.domain.confinement import Mechanism

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def leave_network() -> Mechanism:
    """Leave the worker's network: as root directly, as anybody else through a user namespace.

    A user namespace takes a process with one thread. In containers and on some distributions
    neither is allowed, which is said.
    """
    if not LINUX:
        return Mechanism(detail="needs Linux")
    try:
        call("unshare", ctypes.c_int(CLONE_NEWNET))
        return Mechanism(active=True, detail="own namespace")
    except OSError as error:
        if error.errno != errno.EPERM:
            return Mechanism(detail=str(error.strerror))
    user, group = os.getuid(), os.getgid()
    try:
        call("unshare", ctypes.c_int(CLONE_NEWUSER | CLONE_NEWNET))
    except OSError as error:
        return Mechanism(detail=str(error.strerror))
    _keep_names(user, group)
    return Mechanism(active=True, detail="own namespace, through a user namespace")


def _keep_names(user: int, group: int) -> None:
    """Be called in the new user namespace what one was called outside."""
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        pass  # Called nobody instead, with the same rights to files.
