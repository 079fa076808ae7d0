"""Makers: layers that mint the names of their outputs and read those of their inputs."""

from collections.abc import Mapping
from types import MappingProxyType

import keras
import numpy as np

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Ids
from workers.engine.rules.activations import activated

layers = keras.layers


def dense(call: Call) -> Ids:
    """Kernel (inputs, units): rows read the last axis, columns are the units."""
    weights = call.weights("kernel", "bias")
    call.bind(weights["kernel"], 0, call.line(-1), reads=True)
    line = call.walk.make(call.layer, weights["kernel"], 1)
    return _finish(call, line, "units", -1)


def convolution(call: Call) -> Ids:
    """Kernel (*window, inputs, filters)."""
    weights = call.weights("kernel", "bias")
    if call.layer.groups != 1:
        raise Opaque(f"{call.layer.name} is a convolution in {call.layer.groups} groups")
    call.bind(weights["kernel"], -2, call.line(), reads=True)
    line = call.walk.make(call.layer, weights["kernel"], -1)
    return _finish(call, line, "filters")


def transposed_convolution(call: Call) -> Ids:
    """Kernel (*window, filters, inputs)."""
    weights = call.weights("kernel", "bias")
    call.bind(weights["kernel"], -1, call.line(), reads=True)
    line = call.walk.make(call.layer, weights["kernel"], -2)
    return _finish(call, line, "filters")


def separable_convolution(call: Call) -> Ids:
    """Depthwise kernel (*window, inputs, multiplier), pointwise (1s, inputs·multiplier, filters).

    The rows of the pointwise kernel are the ones that read.
    """
    weights = call.weights("depthwise_kernel", "pointwise_kernel", "bias")
    line = call.line()
    repeated = np.repeat(line, call.layer.depth_multiplier)
    call.bind(weights["depthwise_kernel"], -2, line)
    call.bind(weights["pointwise_kernel"], -2, repeated, reads=True)
    made = call.walk.make(call.layer, weights["pointwise_kernel"], -1)
    return _finish(call, made, "filters")


def embedding(call: Call) -> Ids:
    """Embeddings (vocabulary, dimensions): the dimensions are the units."""
    weights = call.weights("embeddings")
    reason = f"{call.layer.name} reads whole numbers"
    call.walk.freeze(call.ids, reason)
    line = call.walk.make(call.layer, weights["embeddings"], 1)
    return _finish(call, line, "output_dim", -1)


def recurrent(call: Call) -> Ids:
    """Kernel (inputs, gates·units): the rows read; the units stay, for now."""
    if call.layer.stateful or len(call.output_shapes) != 1:
        raise Opaque(f"{call.layer.name} hands its state on")
    kernel = {v.name: v for v in call.layer.weights}.get("kernel")
    if kernel is None:
        raise Opaque(f"{call.layer.name} has no single kernel")
    call.bind(kernel, 0, call.line(-1), reads=True)
    name = call.walk.names.mint(1)
    reason = f"{call.layer.name} is recurrent: its units are coupled through its state"
    call.walk.freeze(name, reason)
    call.walk.opaque[call.layer.name] = reason
    return np.broadcast_to(name, call.shape)


def _finish(call: Call, line: Ids, setting: str, axis: int | None = None) -> Ids:
    bias = call.weights(*(v.name for v in call.layer.weights)).get("bias")
    if bias is not None:
        call.bind(bias, 0, line)
    call.walk.edit(call.layer, setting, line, lambda shape: shape[0])
    return call.spread(activated(call, line), axis)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.Dense: dense,
        layers.Conv1D: convolution,
        layers.Conv2D: convolution,
        layers.Conv3D: convolution,
        layers.Conv1DTranspose: transposed_convolution,
        layers.Conv2DTranspose: transposed_convolution,
        layers.Conv3DTranspose: transposed_convolution,
        layers.SeparableConv1D: separable_convolution,
        layers.SeparableConv2D: separable_convolution,
        layers.Embedding: embedding,
        layers.SimpleRNN: recurrent,
        layers.LSTM: recurrent,
        layers.GRU: recurrent,
    }
)
