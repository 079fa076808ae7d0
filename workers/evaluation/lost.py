"""How much accuracy a smaller model has lost, on the same samples."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.evaluate import Z, hits, predicted
from workers.training.data import Samples
from workers.training.objective import Objective

Array = NDArray[Any]
ONE_SIDED_Z = 1.6448536269514722
"""95th percentile of the normal distribution."""


@dataclass(frozen=True)
class Lost:
    """Points of accuracy, of the output that lost most, with a 95 % interval."""

    points: float
    interval: tuple[float, float]


def at_most(points: float, interval: tuple[float, float]) -> float:
    """What is lost at most, with 95 % confidence.

    [The one-sided bound of a test for non-inferiority: Blackwelder 1982, Controlled Clinical
    Trials 3(4)]

    Args:
        points: what was measured.
        interval: the two-sided 95 % interval about it, symmetric.
    """
    return points + (interval[1] - points) * ONE_SIDED_Z / Z


def right(model: Any, samples: Samples, objective: Objective) -> list[Array]:
    """For each output with classes, which samples it got right: a share in [0, 1], (samples,)."""
    outputs = predicted(model, samples)
    return [
        hits(truth, np.asarray(values), one.from_logits, 1).reshape(samples.count, -1).mean(axis=1)
        for one, truth, values in zip(objective.outputs, samples.targets, outputs, strict=True)
        if one.classifies
    ]


def lost(before: list[Array], after: list[Array]) -> Lost:
    """Accuracy before less accuracy after, in percentage points.

    Both are of the same samples, so the interval is that of the mean of paired differences: samples
    on which both agree say nothing, and it is much narrower than those of the two accuracies.
    [Altman & Bland, Statistics with Confidence, 2000, chapter 6]
    """
    return max((_lost(a - b) for a, b in zip(before, after, strict=True)), key=lambda x: x.points)


def _lost(differences: Array) -> Lost:
    points = 100.0 * float(differences.mean())
    spread = float(differences.std(ddof=1)) if differences.size > 1 else 0.0
    half = 100.0 * Z * spread / math.sqrt(differences.size)
    return Lost(points, (points - half, points + half))
