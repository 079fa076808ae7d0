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


@dataclass(frozen=True)
class Lost:
    """Points of accuracy, of the output that lost most, with a 95 % interval."""

    points: float
    interval: tuple[float, float]


def cautious(points: float, interval: tuple[float, float]) -> float:
    """One standard error more: what is chosen among several looks better than it is.

    [The one-standard-error rule, Breiman et al., Classification and Regression Trees, 1984,
    section 3.4.3]
    """
    return points + (interval[1] - points) / Z


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
