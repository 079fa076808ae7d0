"""Mutated model and data files against the intake: `python -m benchmarks.fuzz --count 10000`.

Each batch is read by a process of its own, so that a crash of a C library is seen as one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from tests.hostile.mutations import KINDS

BATCH = 500
ENDS = ("accepted", "refused", "endless", "crashed")


def batch(kind: str, count: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as kept:
        command = [sys.executable, "-m", "tests.hostile.fuzzing"]
        command += [kind, str(count), str(seed), kept]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    failures = 0
    for kind in KINDS:
        began, ends, slowest = time.monotonic(), Counter[str](), 0.0
        for index in range(0, asked.count, BATCH):
            count = min(BATCH, asked.count - index)
            found = batch(kind, count, asked.seed * 1_000_000 + index)
            ends.update({end: found[end] for end in ENDS})
            slowest = max(slowest, found["slowest"])
            failures += len(found["wrong"])
            print(*found["wrong"], sep="\n", end="\n" if found["wrong"] else "", flush=True)
        print(
            f"{kind}: {asked.count} files: {', '.join(f'{ends[end]} {end}' for end in ENDS)}; "
            f"slowest {slowest:.3f} s of CPU, {time.monotonic() - began:.0f} s in all",
            flush=True,
        )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
