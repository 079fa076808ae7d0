"""Mixed precision: hidden layers compute in 16 bits for a while, weights stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

POLICY = "mixed_bfloat16"
"""bfloat16 has the range of float32, so that no gradient needs to be scaled."""


@contextmanager
def mixed(model: Any, asked: bool) -> Iterator[None]:
    """While it lasts, layers of float32 compute in bfloat16, but for those that make the outputs.

    Layers that the model runs in another precision stay as they are. The policies are those of
    before at the end, whatever happens.

    Args:
        model: a functional model; what is traced from now on computes so.
        asked: whether to do anything.
    """
    outputs = {id(tensor) for tensor in model.outputs}
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if asked and layer.dtype_policy.name == "float32" and not _makes(layer, outputs)
    ]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.dtype_policies.get(POLICY)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def _makes(layer: Any, outputs: set[int]) -> bool:
    return any(
        id(tensor) in outputs for node in layer._inbound_nodes for tensor in node.output_tensors
    )
