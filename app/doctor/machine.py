"""Disk space and memory."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.doctor.check import Check, check
from app.settings import Settings

GIB = 2**30
LEAST_DISK_BYTES = GIB // 4
"""What workers leave free on any disk."""
MEMINFO = Path("/proc/meminfo")


def machine(settings: Settings) -> Iterator[Check]:
    """Space where data are kept and where jobs run, and memory."""
    folder = _nearest(settings.data_dir.absolute())
    yield _space("disk of the data", folder, settings.upload_limit_bytes)
    yield _space("disk of jobs", Path(tempfile.gettempdir()), settings.job_disk_bytes)
    yield _memory(settings)


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _space(name: str, folder: Path, wanted: int) -> Check:
    free = shutil.disk_usage(folder).free
    said = f"{free / GIB:.1f} GiB free at {folder}"
    if free < LEAST_DISK_BYTES:
        return check(name, "fail", said, "Jobs and uploads fail below 0.25 GiB. Make room.")
    if free < wanted:
        advice = f"The settings let one upload or job take {wanted / GIB:.1f} GiB. Make room, or "
        return check(name, "warn", said, advice + "lower the limit.")
    return check(name, "ok", said)


def _memory(settings: Settings) -> Check:
    sizes = _meminfo()
    total, free = sizes.get("MemTotal"), sizes.get("MemAvailable")
    if total is None or free is None:
        return check("memory", "warn", "unknown on this system", "Look at it yourself.")
    said = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < GIB:
        advice = "A job's process takes about 0.6 GiB before it has done anything. Free memory."
        return check("memory", "warn", said, advice)
    needed = settings.intake_processes * settings.intake_memory_bytes
    if needed > total:
        advice = (
            "SECATEUR_INTAKE_PROCESSES x SECATEUR_INTAKE_MEMORY_BYTES is more than the machine "
            "has. Lower one of them."
        )
        return check("memory", "warn", said, advice)
    return check("memory", "ok", said)


def _meminfo() -> dict[str, int]:
    """Bytes by name; empty where there is no such file."""
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs}
