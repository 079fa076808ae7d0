"""What both sides do alike: try a step and record how it failed; time a cut."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")

ENOUGH_SECONDS = 2.0
"""A cut that takes longer is timed once, others three times."""


class Failed(Exception):
    """A step did not work; the message names the step and the error."""


def attempt(step: str, work: Callable[[], Result]) -> Result:
    """Do a step.

    Raises:
        Failed: whatever went wrong, as one line.
    """
    try:
        return work()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise Failed(f"{step}: {type(error).__name__}: {lines[0][:1000]}") from error


def timed(prepare: Callable[[], Given], work: Callable[[Given], Result]) -> tuple[Result, float]:
    """The last result, and the median seconds of one to three runs, without their preparation."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < 3 and seconds[0] < ENOUGH_SECONDS):
        given = prepare()
        start = time.perf_counter()
        result = work(given)
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def same_cut(found: dict[str, Any], earlier: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Proof and export of an earlier variant that came out the same; {} where there is none."""
    for other in earlier:
        if "onnx" in other and all(other[key] == found[key] for key in ("macs", "parameters")):
            return {key: other[key] for key in ("difference", "exact", "onnx")}
    return {}
