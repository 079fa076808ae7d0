"""What a job's process takes until it is ready: a copy of the template, and a program of its own.

`python -m benchmarks.starts [--rounds 7]`, in turns, medians. Both are confined as jobs are.
"""

import argparse
import statistics
import time

import psutil

from app.settings import Settings
from workers import child
from workers.confinement import Limits
from workers.nursery import Nursery
from workers.parent import Child
from workers.protocol import Ready, parse
from workers.users import Users

SECONDS = 120.0


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    limits, users = Limits.of(Settings()), Users.of(Settings())
    nursery = Nursery(limits, users)
    try:
        _until_ready(nursery.take(), time.monotonic())
        copies, programs = [], []
        for _ in range(rounds):
            started = time.monotonic()
            copies.append(_until_ready(nursery.take(), started))
            started = time.monotonic()
            programs.append(_until_ready(Child(limits, child.PROGRAM, users), started))
    finally:
        nursery.close()
    print("| What | Ready after | Processor time |\n|---|---|---|")
    for name, found in (("A program of its own", programs), ("A copy of the template", copies)):
        walls, used = zip(*found, strict=True)
        print(f"| {name} | {statistics.median(walls):.3f} s | {statistics.median(used):.3f} s |")


def _until_ready(made: Child, started: float) -> tuple[float, float]:
    """Seconds until it says that it is ready, and of processor time until then."""
    try:
        while time.monotonic() < started + SECONDS:
            for line in made.read(0.2) or []:
                if isinstance(parse(line), Ready):
                    wall = time.monotonic() - started
                    used = psutil.Process(made.pid).cpu_times()
                    return wall, used.user + used.system
        raise SystemExit(f"not ready within {SECONDS:g} s: {made.log.read_text()[-2000:]}")
    finally:
        made.close()


if __name__ == "__main__":
    main()
