"""What holds back the process that reads an upload; nothing in it may rely on good files."""

import ctypes
import os
import resource
import signal
import sys

from app.domain.base import Record

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 64


class Limits(Record):
    """Resource limits of one reading."""

    memory_bytes: int
    """Memory that the process may fill; address space may be twice as large."""
    file_bytes: int
    """Largest file that it may write."""
    seconds: int
    """Of one core; the parent watches the wall clock."""


def environment(folder: str) -> dict[str, str]:
    """The whole environment: nothing is inherited, so no secret can leak into it."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": folder,
        "TMPDIR": folder,
        # HDF5 loads compression filters as shared libraries; this is its word for none.
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
    }


def confine(limits: Limits) -> None:
    """Hold this process back, for good; called before it looks at the upload.

    Every mechanism belongs here: what is added later is added in this function alone.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for kind, value in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_AS, 2 * limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.seconds),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))
