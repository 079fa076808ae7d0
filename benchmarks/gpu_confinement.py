"""Does a GPU compute inside a job's confinement? `python -m benchmarks.gpu_confinement`.

Needs a GPU and CuPy, which like TensorFlow calls cuBLAS. A fresh process is confined as a job's is,
with a user of its own where this runs as root; it multiplies matrices before and after seccomp, and
tries to read what it must not.
The last line reads `computes inside: True` or says what went wrong.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from workers.confinement.environment import environment

SIDE = 4096
REPEATS = 50
ADDRESS_SPACE = 2**42
"""CUDA reserves address space for all of the GPU's and the machine's memory."""
USER = 60_579


def inside(folder: Path, confined: bool) -> dict[str, Any]:
    """In the fresh process: what was active, and how fast it multiplies."""
    from workers.confinement.limits import Limits
    from workers.confinement.sequence import Confines, enter, seal

    said: dict[str, Any] = {}
    if confined:
        limits = Limits(
            memory_bytes=ADDRESS_SPACE, file_bytes=2**30, processes=4096, cpu_seconds=600
        )
        user = USER if os.getuid() == 0 else None
        entered = enter(Confines(limits=limits, folder=str(folder), parent=os.getppid(), user=user))
    import cupy

    said["device"] = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    ones = cupy.ones((SIDE, SIDE), cupy.float32)
    cupy.matmul(ones, ones).sum()
    cupy.cuda.Device().synchronize()
    if confined:
        said["confinement"] = seal(entered).model_dump(mode="json")
        for path in ("/etc/passwd", "/dev/kmsg", "/dev/shm"):
            try:
                os.listdir(path) if Path(path).is_dir() else Path(path).open("rb").close()
                said.setdefault("reached", []).append(path)
            except OSError:
                pass
    began = time.perf_counter()
    for _ in range(REPEATS):
        ones = cupy.matmul(ones, ones) / SIDE
    said["sum"] = float(ones.sum())
    said["milliseconds"] = (time.perf_counter() - began) * 1000 / REPEATS
    return said


def main() -> None:
    """Two processes, one confined; both must compute the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", type=Path)
    parser.add_argument("--free", action="store_true")
    asked = parser.parse_args()
    if asked.inside:
        print(json.dumps(inside(asked.inside, not asked.free)), flush=True)
        os._exit(0)
    found = []
    for more in (["--free"], []):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            folder.chmod(0o755)
            for name in ("scratch", "out"):
                (folder / name).mkdir()
                if os.getuid() == 0:
                    os.chown(folder / name, USER, USER)
            command = [sys.executable, "-m", "benchmarks.gpu_confinement", "--inside", made, *more]
            told = environment(folder) | {
                "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            }
            done = subprocess.run(command, capture_output=True, text=True, env=told)
        if done.returncode or not done.stdout:
            raise SystemExit(f"computes inside: False\n{done.stderr[-3000:]}")
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(found[-1], indent=1))
    free, confined = found
    same = free["sum"] == confined["sum"] == SIDE * SIDE
    print(f"computes inside: {same and 'reached' not in confined}")


if __name__ == "__main__":
    main()
