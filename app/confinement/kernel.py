"""The C library and raw system calls, by ctypes: all that the mechanisms need of the kernel."""

import ctypes
import os
import platform
import sys
from typing import Any

LINUX = sys.platform.startswith("linux")
MACHINE = platform.machine()
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """A function of the C library. Raises `OSError` where it answers less than zero."""
    answer = int(getattr(_LIBC, name)(*arguments))
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return answer


def syscall(name: str, number: int, *arguments: Any) -> int:
    """A system call that the C library has no function for. Raises `OSError`."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = int(_LIBC.syscall(ctypes.c_long(number), *wide))
    if answer < 0:
        found = ctypes.get_errno()
        raise OSError(found, f"{name}: {os.strerror(found)}")
    return answer


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one value. Raises `OSError`."""
    wide = [ctypes.c_ulong(part) for part in (value, 0, 0, 0)]
    call("prctl", ctypes.c_int(option), *wide)
