"""Metrics of a model on held-out samples, each with a 95 % confidence interval where defined."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import InvalidSpec
from app.domain.metrics import MetricValue
from app.domain.recovery import MetricName
from workers.training.data import Samples
from workers.training.objective import Objective, OutputObjective

Array = NDArray[Any]
Z = 1.959963984540054
"""97.5th percentile of the normal distribution."""
BATCH = 256


def wilson(successes: float, samples: int) -> tuple[float, float]:
    """95 % interval of a share. [Wilson 1927]"""
    share = successes / samples
    spread = Z * math.sqrt(share * (1 - share) / samples + Z**2 / (4 * samples**2))
    centre = share + Z**2 / (2 * samples)
    scale = 1 + Z**2 / samples
    return (max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0))


def mean_interval(values: Array) -> tuple[float, float]:
    """95 % interval of a mean, by the central limit theorem."""
    mean = float(values.mean())
    half = Z * float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else 0.0
    return (mean - half, mean + half)


def evaluate(model: Any, samples: Samples, objective: Objective) -> dict[str, MetricValue]:
    """Loss and metrics by name; with several outputs, names are `<output>.<metric>`."""
    return scored(predicted(model, samples), samples, objective)


def predicted(model: Any, samples: Samples, batch_size: int = BATCH) -> list[Array]:
    """A model's outputs, one array per output, in the order of its outputs and of the samples."""
    # A model may answer by name; flattened, its answers are in that order.
    found: list[Array] = keras.tree.flatten(
        model.predict(samples.x, batch_size=batch_size, verbose=0)
    )
    return found


def scored(
    outputs: Sequence[Array], samples: Samples, objective: Objective
) -> dict[str, MetricValue]:
    """The same for outputs that are known already, one array per output, in the model's order."""
    found: dict[str, MetricValue] = {}
    for one, truth, values in zip(objective.outputs, samples.targets, outputs, strict=True):
        prefix = "" if len(objective.outputs) == 1 else f"{one.output}."
        found[f"{prefix}loss"] = _loss(one, truth, values)
        for name in one.metrics:
            found[prefix + name] = metric(name, one, truth, np.asarray(values))
    return found


def _loss(one: OutputObjective, truth: Array, values: Any) -> MetricValue:
    loss = one.keras_loss()
    total, count = 0.0, len(truth)
    for start in range(0, count, 4096):
        part = slice(start, start + 4096)
        mean = float(keras.ops.convert_to_numpy(loss(_shaped(truth[part], values), values[part])))
        total += mean * len(truth[part])
    return MetricValue(value=total / count, samples=count)


def _shaped(truth: Array, values: Any) -> Array:
    """Targets of a single unit as a column, like its output."""
    if truth.ndim == 1 and values.ndim == 2 and values.shape[-1] == 1:
        return truth[:, None]
    return truth


def metric(name: MetricName, one: OutputObjective, truth: Array, values: Array) -> MetricValue:
    """One metric.

    Args:
        truth: targets, samples first: class indexes, one-hot rows, or values.
        values: the output's predictions.

    Raises:
        InvalidSpec: the metric is not defined for this output.
    """
    count = len(truth)
    match name:
        case "accuracy" | "top_5_accuracy":
            if not one.classifies:
                raise InvalidSpec(
                    f"{name} is not defined for loss {one.loss}; use mean_absolute_error or "
                    "mean_squared_error.",
                    field="evaluate.metrics",
                )
            found = hits(truth, values, one.from_logits, 5 if name == "top_5_accuracy" else 1)
            share = float(found.mean())
            # Pixels of an image are no independent samples: no interval for dense predictions.
            interval = wilson(float(found.sum()), count) if found.ndim == 1 else None
            return MetricValue(value=share, interval=interval, samples=count)
        case "auc":
            return _auc(truth, values, one)
        case "mean_squared_error" | "mean_absolute_error":
            difference = np.asarray(_shaped(_dense(truth, values), values), float) - values
            error = difference**2 if name == "mean_squared_error" else np.abs(difference)
            each = error.reshape(count, -1).mean(axis=1)
            return MetricValue(
                value=float(each.mean()), interval=mean_interval(each), samples=count
            )


def _dense(truth: Array, values: Array) -> Array:
    """Class indexes as one-hot rows where the output has several units."""
    if truth.ndim == values.ndim - 1 and values.shape[-1] > 1:
        one_hot: Array = np.eye(values.shape[-1])[truth.astype(int)]
        return one_hot
    return truth


def hits(truth: Array, values: Array, from_logits: bool, top: int) -> Array:
    """Whether the right class is among the `top` likeliest, (samples,) or (samples, …)."""
    if values.shape[-1] == 1:
        positive = values[..., 0] > (0.0 if from_logits else 0.5)
        return np.asarray(positive == (truth.reshape(positive.shape) > 0.5))
    if truth.ndim == values.ndim and truth.shape[-1] == values.shape[-1]:
        truth = truth.argmax(axis=-1)
    truth = truth.reshape(values.shape[:-1])
    if top == 1:
        return np.asarray(values.argmax(axis=-1) == truth)
    best = np.argsort(-values, axis=-1, kind="stable")[..., :top]
    return np.asarray((best == truth[..., None]).any(axis=-1))


def _auc(truth: Array, values: Array, one: OutputObjective) -> MetricValue:
    """Area under the ROC curve by ranks [Mann & Whitney 1947]; interval: Hanley & McNeil 1982."""
    scores = values.reshape(len(values), -1)
    labels = truth.reshape(len(truth), -1)
    if scores.shape[1] == 2:
        scores, labels = (
            scores[:, 1:],
            (labels[:, -1:] if labels.shape[1] == 2 else labels),
        )
    if scores.shape[1] != 1 or labels.shape[1] != 1 or set(np.unique(labels)) - {0, 1}:
        raise InvalidSpec(
            f"auc is defined for two classes; output {one.output} has {scores.shape[1]} units.",
            field="evaluate.metrics",
        )
    positive = labels[:, 0] == 1
    p, n = int(positive.sum()), int((~positive).sum())
    if p == 0 or n == 0:
        return MetricValue(value=float("nan"), samples=len(truth))
    _, inverse, counts = np.unique(scores[:, 0], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    area = float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (p - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (p * n)
    half = Z * math.sqrt(max(variance, 0.0))
    return MetricValue(
        value=area,
        interval=(max(area - half, 0.0), min(area + half, 1.0)),
        samples=len(truth),
    )
