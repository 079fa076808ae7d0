"""Batch-normalisation statistics after a cut.

Removing channels changes what every later layer sees, and the moving averages still describe the
original. Left alone they need some hundred steps to follow, during which the validation loss
says nothing and early stopping stops for the wrong reason.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from workers.training.data import Samples

BATCHES = 32
"""Enough for a mean over some thousand samples."""


def normalisations(model: Any) -> Iterator[Any]:
    """All batch normalisations that train, nested ones too."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            yield layer


def reestimate_statistics(model: Any, samples: Samples, batch_size: int, seed: int) -> int:
    """Replace the moving averages by plain averages over training batches.

    The weights stay. Averaging is cumulative: in batch i the old average keeps i/(i+1).

    Returns:
        The number of batches used; 0 for a model without batch normalisation.
    """
    layers = list(normalisations(model))
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    size = max(batch_size, 64)
    order = np.random.default_rng(seed).permutation(samples.count)[: size * BATCHES]
    # A last batch of few samples would weigh as much as a full one.
    count = max(len(order) // size, 1)
    try:
        for index in range(count):
            for layer in layers:
                layer.momentum = index / (index + 1)
            chosen = order[index * size : (index + 1) * size]
            inputs = [array[chosen] for array in samples.inputs.values()]
            model(inputs[0] if len(inputs) == 1 else inputs, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return count
