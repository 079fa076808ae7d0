"""What a confined process may read beside its own: Python's code, and what libraries look up."""

import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

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


def code(*packages: ModuleType) -> tuple[Path, ...]:
    """Python's library, what is installed beside it, and packages of Secateur's.

    Not the whole of `sys.path`: an editable install names the working copy, which may hold the
    data folder.
    """
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [str(Path(package.__path__[0])) for package in packages]
    found += [sysconfig.get_config_var("LIBDIR") or "", str(Path(sys.prefix) / "pyvenv.cfg")]
    return tuple(Path(os.path.realpath(path)) for path in dict.fromkeys(found) if path)


def system() -> tuple[Path, ...]:
    """Shared libraries, and what tells of cores, memory, time zone and fonts."""
    return tuple(map(Path, (*LIBRARIES, *SYSTEM)))
