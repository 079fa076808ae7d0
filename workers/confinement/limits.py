"""Resource limits of a job's process."""

import os
import resource

from app.domain.base import Record
from app.settings import Settings

CPU_SECONDS_PER_SECOND = 64
"""CPU time runs on every core at once; the wall clock is watched by the parent."""

CPU_GRACE_SECONDS = 1


class Limits(Record):
    """Resource limits of one job's process."""

    memory_bytes: int
    file_bytes: int
    processes: int
    cpu_seconds: int
    open_files: int = 1024

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits that the settings allow."""
        return cls(
            memory_bytes=settings.job_memory_bytes,
            file_bytes=settings.job_file_bytes,
            processes=settings.job_processes,
            cpu_seconds=int(settings.job_time_limit_seconds) * CPU_SECONDS_PER_SECOND,
            open_files=settings.job_open_files,
        )


def limit_resources(limits: Limits) -> None:
    """Apply the limits to this process; whoever is not root cannot raise them again."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, value, value)
    # SIGXCPU says what happened; whoever ignores it is killed a little later.
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + CPU_GRACE_SECONDS)


def _limit(kind: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def close_descriptors() -> None:
    """Close all but standard input, output and error."""
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
