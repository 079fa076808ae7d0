"""The environment of a job's process: an allow-list, and folders of its own."""

import os
from pathlib import Path

ALLOWED = frozenset(
    {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
        "MPLCONFIGDIR",
        "KERAS_HOME",
        "KERAS_BACKEND",
        "TF_CPP_MIN_LOG_LEVEL",
        "TF_ENABLE_ONEDNN_OPTS",
        "CUDA_VISIBLE_DEVICES",
        "MALLOC_ARENA_MAX",
        "JOBLIB_MULTIPROCESSING",
        "JE_ARROW_MALLOC_CONF",
        "OPENBLAS_NUM_THREADS",
    }
)


def environment(folder: Path) -> dict[str, str]:
    """The child's whole environment: nothing is inherited, so no secret can leak into it.

    Home and temporary files lie in the scratch folder, which is gone with the job.
    """
    home = str(folder / "scratch")
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": home,
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "XDG_RUNTIME_DIR": home,
        "MPLCONFIGDIR": f"{home}/.config/matplotlib",
        "KERAS_HOME": f"{home}/.keras",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        # Each arena of glibc reserves 64 MiB of address space, which the memory limit counts.
        "MALLOC_ARENA_MAX": "4",
        # It would try, fail and warn: there are no other processes.
        "JOBLIB_MULTIPROCESSING": "0",
        # Threads that start at import: only a process of one thread may be copied. TensorFlow's own
        # come later, and use all cores.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "OPENBLAS_NUM_THREADS": "1",
    }


def clear_environment() -> None:
    """Forget every variable that is not on the list, whoever started this process."""
    for name in set(os.environ) - ALLOWED:
        del os.environ[name]
