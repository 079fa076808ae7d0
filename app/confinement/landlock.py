"""Landlock: what of the file system, TCP, signals and abstract sockets is within reach.

Linux before ABI 8 restricts only the thread that asks, and what it starts afterwards. So the
ruleset is applied while there is one thread, before TensorFlow is imported; the import then
happens inside it, which is why Python's own folders are readable.
<https://docs.kernel.org/userspace-api/landlock.html>
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from app.confinement.kernel import LINUX, syscall
from app.domain.confinement import Mechanism

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture."""
VERSION = 1
RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (
    1 << bit for bit in range(6, 13)
)
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
"""No links, pipes, sockets or devices are made, and nothing is executed anywhere."""
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""What a rule for something other than a folder may name."""
BIND_TCP_AND_CONNECT_TCP = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

DEVICES = ("/dev/null",)
"""Always read and written."""


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("file_system", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """The kernel's ABI of Landlock. Raises `OSError` where there is none."""
    return syscall("landlock_create_ruleset", CREATE_RULESET, None, 0, VERSION)


def _handled(abi: int) -> int:
    """Rights to files and folders that this ABI knows, and that are denied unless a rule grants."""
    known = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    return (1 << known) - 1


def apply(
    readable: Sequence[Path], writable: Sequence[Path], devices: Sequence[Path] = ()
) -> Mechanism:
    """Restrict this thread and all that it starts to these files and folders.

    `no_new_privs` must be set.

    Args:
        readable: these, and all below them.
        writable: read and written.
        devices: read, written and told what to do (ioctl).
    """
    if not LINUX:
        return Mechanism(detail="needs Linux")
    try:
        abi = version()
    except OSError as error:
        off = error.errno == errno.EOPNOTSUPP
        why = "is switched off at boot" if off else "is not in this kernel, or is not allowed"
        return Mechanism(detail=f"Landlock {why}: {error.strerror}")
    try:
        _restrict(readable, writable, devices, abi)
    except OSError as error:
        return Mechanism(detail=str(error))
    return Mechanism(active=True, detail=f"ABI {abi}{_without(abi)}")


def _without(abi: int) -> str:
    """What an old kernel leaves to the other mechanisms."""
    lacks = [
        what
        for since, what in ((3, "truncating"), (4, "TCP"), (5, "ioctl"), (6, "signals"))
        if abi < since
    ]
    return f", which does not know {', '.join(lacks)}" if lacks else ""


def _restrict(
    readable: Sequence[Path], writable: Sequence[Path], devices: Sequence[Path], abi: int
) -> None:
    handled = _handled(abi)
    ruleset = _Ruleset(
        handled,
        BIND_TCP_AND_CONNECT_TCP if abi >= 4 else 0,
        ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0,
    )
    # Older kernels know a shorter structure.
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    descriptor = syscall("landlock_create_ruleset", CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        for path in readable:
            _allow(descriptor, path, READ & handled)
        for path in (*writable, *map(Path, DEVICES)):
            _allow(descriptor, path, (READ | WRITE) & handled)
        for path in devices:
            _allow(descriptor, path, (READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV) & handled)
        syscall("landlock_restrict_self", RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # What is not there needs no rule.
    try:
        if not path.is_dir():
            rights &= OF_FILES
        rule = _PathBeneath(rights, parent)
        syscall("landlock_add_rule", ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
