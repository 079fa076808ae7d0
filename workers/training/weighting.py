"""Weights of samples, so that rare classes count as much as frequent ones."""

from typing import Any

import numpy as np

from workers.training.data import Samples

Array = np.ndarray[Any, Any]


def balanced(samples: Samples) -> Array:
    """A weight per sample, (samples,), float32: samples / (classes · samples of its class).

    Classes are those that occur; the mean weight is 1. The only target holds class indexes, ones
    and zeros of a single output, or one-hot rows.
    """
    (target,) = samples.targets
    flat = target.reshape(samples.count, -1)
    labels = flat[:, 0] if flat.shape[1] == 1 else flat.argmax(axis=1)
    if labels.dtype.kind == "f":
        labels = labels > 0.5  # Probabilities, where a model's own answers are the targets.
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Array = samples.count / (len(counts) * counts[inverse])
    return weights.astype(np.float32)
