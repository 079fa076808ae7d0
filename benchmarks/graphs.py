"""`python -m benchmarks.graphs [--count 500] [--seed 0]`: random graphs, pruned at random.

The same graphs and laws as the test's (`tests/workers/engine/graphs.py`), in number. The last line
says how many held.
"""

import argparse
import collections
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import keras

from tests.workers.engine import graphs


def main() -> None:
    """Check that many graphs; exit status 1 when a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    started = time.perf_counter()
    for number in range(arguments.seed, arguments.seed + arguments.count):
        numbers = random.Random(number)
        try:
            model = graphs.build(numbers.randrange, arguments.steps)
            prune = graphs.spec(numbers.randrange)
            with tempfile.TemporaryDirectory() as folder:
                held = graphs.check(model, prune, Path(folder))
            outcomes["pruned" if held else "refused"] += 1
        except Exception:  # noqa: BLE001  (whatever breaks is counted, and named by its seed)
            outcomes["broken"] += 1
            print(f"seed {number}:", file=sys.stderr)
            traceback.print_exc(limit=-3)
        keras.backend.clear_session()
    seconds = time.perf_counter() - started
    print(
        f"{outcomes['pruned'] + outcomes['refused']}/{arguments.count} graphs kept the laws "
        f"({outcomes['pruned']} pruned, {outcomes['refused']} refused with a reason) in "
        f"{seconds:.0f} s"
    )
    sys.exit(outcomes["broken"] > 0)


if __name__ == "__main__":
    main()
