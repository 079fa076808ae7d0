"""What holds back the process that reads an upload; nothing in it may rely on good files."""

import os
import resource
from pathlib import Path

import app
from app.confinement import landlock, paths, seccomp
from app.confinement.kernel import LINUX
from app.confinement.network import leave_network
from app.confinement.process import die_with_parent, hide_memory, no_new_privileges
from app.confinement.user import drop_capabilities
from app.domain.base import Record

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


def confine(limits: Limits, upload: Path, folder: Path) -> dict[str, str]:
    """Hold this process back, for good; called before it looks at the upload.

    It keeps the API's user, whose other files Landlock keeps from it.

    Args:
        limits: of its resources.
        upload: the one file that it reads.
        folder: the one folder that it writes to.

    Returns:
        What this system lacks, and why, by mechanism.
    """
    die_with_parent()
    lacks = {}
    if not (network := leave_network()).active:
        lacks["network"] = network.detail
    if LINUX:
        drop_capabilities()
        no_new_privileges()
        hide_memory()
    readable = (*paths.code(app), *paths.system(), upload)
    if not (files := landlock.apply(readable, (folder,))).active:
        lacks["landlock"] = files.detail
    if not (calls := seccomp.apply()).active:
        lacks["seccomp"] = calls.detail
    _limit(limits)
    return lacks


def _limit(limits: Limits) -> None:
    for kind, soft, more in (
        (resource.RLIMIT_DATA, limits.memory_bytes, 0),
        (resource.RLIMIT_AS, 2 * limits.memory_bytes, 0),
        (resource.RLIMIT_FSIZE, limits.file_bytes, 0),
        # SIGXCPU says what happened; whoever ignores it is killed a second later.
        (resource.RLIMIT_CPU, limits.seconds, 1),
        (resource.RLIMIT_NOFILE, OPEN_FILES, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, most = resource.getrlimit(kind)
        hard = soft + more
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))
