"""Latencies of ONNX models in pairs: ONNX Runtime, one thread, batch 1, calls in turns.

`python -m benchmarks.torch_pruning.timing PAIRS BEFORE AFTER [BEFORE AFTER ...]` prints JSON.
Models of both frameworks are timed in one process by one runtime, turn by turn, so that whatever
else the machine does meets all of them alike.
"""

import argparse
import json
import math
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.torch_pruning.trying import Failed, attempt

TURN_SECONDS = 0.01
"""A turn repeats its call until it lasts about this long; quick models are timed more calmly so."""
MOST_CALLS = 50


class Turn:
    """A loaded model, its input, and how many calls one turn has."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Untrained weights may let activations fade into denormal numbers, which are slow.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        random = np.random.default_rng(0)
        self._inputs = {
            each.name: random.standard_normal(_sizes(each.shape)).astype(np.float32)
            for each in self._session.get_inputs()
        }
        self._calls = 1
        self.seconds()
        self._calls = max(1, min(MOST_CALLS, math.ceil(TURN_SECONDS / self.seconds())))

    def seconds(self) -> float:
        """Seconds of one call, the mean over a turn."""
        start = time.perf_counter()
        for _ in range(self._calls):
            self._session.run(None, self._inputs)
        return (time.perf_counter() - start) / self._calls


def _sizes(shape: list[Any]) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in shape]


def measure(pairs: int, files: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """For each pair of files: median milliseconds before and after, and median of the ratios.

    A pair with a file that cannot be run has an `error` instead.
    """
    loaded: dict[str, Turn] = {}
    failed: dict[str, str] = {}
    for path in sorted({path for both in files for path in both}):
        try:
            loaded[path] = attempt("ONNX Runtime", partial(Turn, path))
        except Failed as failure:
            failed[path] = str(failure).replace(path, Path(path).name)
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {
        both: [] for both in files if not failed.keys() & set(both)
    }
    for _ in range(pairs):
        for both, taken in seconds.items():
            before, after = (loaded[path].seconds() for path in both)
            taken.append((before, after))
    return [
        _medians(seconds[both])
        if both in seconds
        else {"error": next(failed[path] for path in both if path in failed)}
        for both in files
    ]


def _medians(taken: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "before_ms": 1000 * statistics.median(before for before, _ in taken),
        "after_ms": 1000 * statistics.median(after for _, after in taken),
        "speed_up": statistics.median(before / after for before, after in taken),
    }


def main() -> None:
    """Time the pairs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=int)
    parser.add_argument("files", nargs="+", help="BEFORE AFTER, again and again")
    arguments = parser.parse_args()
    files = list(zip(arguments.files[::2], arguments.files[1::2], strict=True))
    print(json.dumps({"pairs": measure(arguments.pairs, files)}))


if __name__ == "__main__":
    main()
