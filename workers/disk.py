"""How much disk a job's folder takes up, and whether there is any left; asked once a second."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from app.domain.errors import ResourceLimitReached
from workers.endings import gib

ENTRIES = 20_000
"""Files and folders that a job may have: looking at them takes time, keeping them takes inodes."""
DEPTH = 32
"""Of folders within each other."""
RESERVE_BYTES = 256 * 1024 * 1024
"""A disk with less than this left would fail everybody. What a job has deleted and still holds
open shows only here."""


def check(folder: Path, limit_bytes: int) -> None:
    """Raises `ResourceLimitReached` where a job takes up more than it may."""
    used = 0
    for count, (depth, size) in enumerate(_entries(folder)):
        used += size
        if used > limit_bytes:
            raise ResourceLimitReached(
                f"The job's files take up more than the {gib(limit_bytes)} of disk space a job "
                "may use."
            )
        if count >= ENTRIES or depth > DEPTH:
            raise ResourceLimitReached(
                f"The job has more than the {ENTRIES} files a job may have, or folders nested "
                f"more than {DEPTH} deep."
            )
    if shutil.disk_usage(folder).free < RESERVE_BYTES:
        raise ResourceLimitReached(
            f"The disk of the job's folder has less than {gib(RESERVE_BYTES)} left. If it is not "
            "this job that fills it, its operator must make room."
        )


def _entries(folder: Path) -> Iterator[tuple[int, int]]:
    """Depth and bytes on disk of everything in the folder; links are not followed."""
    waiting = [(0, str(folder))]
    while waiting:
        depth, path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    # Blocks of 512 bytes, whatever the file system's are: holes cost nothing.
                    yield depth, found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((depth + 1, entry.path))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # Gone meanwhile, or closed by the job, who cannot fill it then either.
