"""What a job's process may read and write."""

from pathlib import Path

import app
import workers
from app.confinement import paths

PCI = Path("/sys/devices")
"""ONNX Runtime looks for GPUs there."""
ACCELERATORS = (
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "kfd",
    "dri/renderD*",
)
"""Below /dev: what CUDA and ROCm talk to. Not nvidia-modeset or the screens of /dev/dri."""
DRIVERS = ("/proc/driver/nvidia", "/usr/local/nvidia", "/usr/local/cuda", "/sys/module/nvidia")
"""What their libraries read."""


def code() -> tuple[Path, ...]:
    """Python's own, and Secateur's two packages."""
    return paths.code(app, workers)


def readable(folder: Path) -> tuple[Path, ...]:
    """All that may be read, the job's own folder included."""
    return (folder, *code(), *paths.system(), *PCI.glob("pci*"), *map(Path, DRIVERS))


def writable(folder: Path) -> tuple[Path, ...]:
    """All that may be written."""
    return (folder / "scratch", folder / "out")


def accelerators() -> tuple[Path, ...]:
    """The GPUs' devices, where there are some, and what using them takes."""
    found = tuple(
        path
        for pattern in ACCELERATORS
        for path in sorted(Path("/dev").glob(pattern))
        if path.is_char_device()
    )
    # CUDA names its threads by a file of this process', and gives up where it may not.
    return (*found, Path("/proc/self/task")) if found else ()
