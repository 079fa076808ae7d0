"""What a job's process may read and write."""

from pathlib import Path

import app
import workers
from app.confinement import paths

PCI = Path("/sys/devices")
"""ONNX Runtime looks for GPUs there."""


def code() -> tuple[Path, ...]:
    """Python's own, and Secateur's two packages."""
    return paths.code(app, workers)


def readable(folder: Path) -> tuple[Path, ...]:
    """All that may be read, the job's own folder included."""
    return (folder, *code(), *paths.system(), *PCI.glob("pci*"))


def writable(folder: Path) -> tuple[Path, ...]:
    """All that may be written."""
    return (folder / "scratch", folder / "out")
