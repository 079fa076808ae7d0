"""Mutated model and data files against the intake: `python -m benchmarks.fuzz --count 10000`.

Each batch is read by a process of its own, so that a crash of a C library is seen as one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

from tests.hostile.mutations import KINDS

BATCH = 500


def batch(kind: str, count: int, seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as kept:
        command = [sys.executable, "-m", "tests.hostile.fuzzing"]
        command += [kind, str(count), str(seed), kept]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * count)
    if ended.returncode:
        wrong = [f"{kind}, seed {seed}: ended with {ended.returncode}: {ended.stderr[-500:]}"]
        return {"accepted": 0, "refused": 0, "slowest": 0.0, "wrong": wrong}
    return dict(json.loads(ended.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    failures = 0
    for kind in KINDS:
        began, found = time.monotonic(), []
        for index in range(0, asked.count, BATCH):
            count = min(BATCH, asked.count - index)
            found.append(batch(kind, count, asked.seed * 1_000_000 + index))
        accepted = sum(int(str(one["accepted"])) for one in found)
        refused = sum(int(str(one["refused"])) for one in found)
        slowest = max(float(str(one["slowest"])) for one in found)
        wrong = [line for one in found for line in one["wrong"]]
        failures += len(wrong)
        print(
            f"{kind}: {asked.count} files, {accepted} accepted, {refused} refused, "
            f"{len(wrong)} wrong, slowest {slowest:.3f} s of CPU, "
            f"{time.monotonic() - began:.0f} s in all",
            flush=True,
        )
        for line in wrong[:20]:
            print("   ", line, flush=True)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
