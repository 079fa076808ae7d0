"""What a job's process may read: its own folder, Python's code, and what libraries look up."""

import os
import sys
import sysconfig
from pathlib import Path

import app
import workers

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
SYSTEM = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/usr/share/fonts",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    # ONNX Runtime looks for GPUs there.
    "/sys/bus/pci/devices",
    # Only this process' own: the entry is resolved here and now.
    "/proc/self",
)
"""Libraries ask these for cores, memory, time zone and fonts."""
PCI = Path("/sys/devices")
DEVICES = ("/dev/null",)
"""Read and written."""


def code() -> tuple[Path, ...]:
    """Python's library, what is installed beside it, and Secateur's two packages.

    Not the whole of `sys.path`: an editable install names the working copy, which may hold the
    data folder.
    """
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [str(Path(package.__path__[0])) for package in (app, workers)]
    found += [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix) / "pyvenv.cfg")]
    return tuple(Path(os.path.realpath(path)) for path in dict.fromkeys(found) if path)


def readable(folder: Path) -> tuple[Path, ...]:
    """All that may be read, the job's own folder included."""
    return (folder, *code(), *(Path(path) for path in (*LIBRARIES, *SYSTEM)), *PCI.glob("pci*"))


def writable(folder: Path) -> tuple[Path, ...]:
    """All that may be written."""
    return (folder / "scratch", folder / "out")
