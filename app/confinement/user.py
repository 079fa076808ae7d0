"""A user of the process' own, without capabilities, where the worker is root."""

import ctypes
import os
from pathlib import Path

from app.confinement.kernel import LINUX, call, prctl
from app.domain.confinement import Mechanism

PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 2
LAST_CAPABILITY = 63


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def drop_user(user: int | None, needed: tuple[Path, ...]) -> Mechanism:
    """Become `user` (and the group of the same number) for good, and give up every capability.

    Args:
        user: None where the parent has no other user to give.
        needed: files and folders that the process must reach afterwards. Where the new user may
            not (an interpreter in root's home folder), CAP_DAC_READ_SEARCH is kept, and what may
            be read is Landlock's alone to say.
    """
    if not LINUX:
        return Mechanism(detail="needs Linux")
    if os.getuid() != 0:
        drop_capabilities()
        return Mechanism(active=True, detail=f"the worker's own, uid {os.getuid()}, no privileges")
    if user is None:
        return Mechanism(detail="the worker is root and could not hand its folders to another uid")
    try:
        _become(user)
    except OSError as error:
        return Mechanism(detail=f"cannot become uid {user}: {error.strerror}")
    if _reaches(needed):
        set_capabilities(0)
        return Mechanism(active=True, detail=f"uid {user}")
    set_capabilities(1 << CAP_DAC_READ_SEARCH)
    return Mechanism(
        active=True,
        detail=f"uid {user}, CAP_DAC_READ_SEARCH kept: only root reaches Python's files",
    )


def drop_capabilities() -> None:
    """Give up every capability for good, and remain who one is."""
    _drop_bounding_set()
    set_capabilities(0)


def _become(user: int) -> None:
    os.setgroups([])
    prctl(PR_SET_KEEPCAPS, 1)
    os.setresgid(user, user, user)
    _drop_bounding_set()
    os.setresuid(user, user, user)
    prctl(PR_SET_KEEPCAPS, 0)


def _drop_bounding_set() -> None:
    prctl_quietly(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(LAST_CAPABILITY + 1):
        prctl_quietly(PR_CAPBSET_DROP, capability)


def prctl_quietly(option: int, value: int) -> None:
    """prctl(2) where a refusal means that there was nothing to give up."""
    try:
        prctl(option, value)
    except OSError:
        pass


def set_capabilities(mask: int) -> None:
    """Permitted and effective capabilities, at most those held; inheritable ones become none."""
    header = _Header(CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (_Data * 2)(_Data(low, low, 0), _Data(high, high, 0))
    call("capset", ctypes.byref(header), data)


def _reaches(needed: tuple[Path, ...]) -> bool:
    """Whether the user may read all of it without any capability.

    access(2) leaves capabilities out for whoever is not root.
    """
    return all(os.access(path, os.R_OK) for path in needed if _exists(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True
