"""What confines a job's process: resource limits, a bare environment, death with its parent."""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from app.domain.base import Record
from app.settings import Settings

PR_SET_PDEATHSIG = 1
CPU_SECONDS_PER_SECOND = 64
"""CPU time runs on every core at once; the wall clock is watched by the parent."""


class Limits(Record):
    """Resource limits of one job's process."""

    memory_bytes: int
    file_bytes: int
    processes: int
    cpu_seconds: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits that the settings allow."""
        return cls(
            memory_bytes=settings.job_memory_bytes,
            file_bytes=settings.job_file_bytes,
            processes=settings.job_processes,
            cpu_seconds=int(settings.job_time_limit_seconds) * CPU_SECONDS_PER_SECOND,
        )


def environment(folder: Path) -> dict[str, str]:
    """The child's whole environment: nothing is inherited, so no secret can leak into it."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "KERAS_HOME": str(folder / ".keras"),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        # Each arena of glibc reserves 64 MiB of address space, which the memory limit counts.
        "MALLOC_ARENA_MAX": "4",
    }


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that happens (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent was gone before the kernel knew.
        sys.exit(1)


def limit_resources(limits: Limits) -> None:
    """Apply the limits to this process and its children; they cannot be raised again."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))
