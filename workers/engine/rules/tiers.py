"""Tiers: layers that unite the names that meet in them, or bind weights to the same names."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import keras
import numpy as np
from keras.src.applications.convnext import LayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor
from workers.engine.rules.activations import is_elementwise

layers = keras.layers


def merge(call: Call) -> Tensor:
    """Elementwise over several inputs; Keras adds missing axes behind the batch axis."""
    rank = max(len(part) for part in call.inputs)
    return broadcast(
        call, [(part[0], *[Axis(1)] * (rank - len(part)), *part[1:]) for part in call.inputs]
    )


def broadcast(call: Call, parts: Sequence[Tensor]) -> Tensor:
    """Names of tensors that meet elementwise.

    An axis of size 1 that meets many is one unit for all of them: it stays.
    """
    rank = max(len(part) for part in parts)
    padded = [(*[Axis(1)] * (rank - len(part)), *part) for part in parts]
    out = []
    for number, column in enumerate(zip(*padded, strict=True)):
        wide = [axis for axis in column if axis.size != 1]
        if not wide:
            wide = list(column)
        elif number > 0:
            for axis in column:
                if axis.size == 1:
                    call.freeze(axis, "broadcasts it over many channels")
        result = wide[0]
        for axis in wide[1:] if number > 0 else ():
            result = call.walk.unite(result, axis, call.key)
        out.append(result)
    return call.fitted(out)


def batch_normalisation(call: Call) -> Tensor:
    """Scale, offset, mean and variance (channels,) belong to the channels along its axis."""
    weights = call.weights("gamma", "beta", "moving_mean", "moving_variance")
    x = call.input
    axis = x[call.axis(call.layer.axis)]
    for variable in weights.values():
        call.bind(variable, 0, axis)
    return x


def elementwise(call: Call) -> Tensor:
    """An activation of its own; frozen where it mixes channels."""
    activation = getattr(call.layer, "activation", None)
    if not is_elementwise(activation):
        name = getattr(activation, "__name__", "an unknown function")
        if name not in ("softmax", "log_softmax"):
            raise Opaque(f"{call.key} is {name}, which mixes channels")
        call.freeze(call.input[-1], f"is {name}, which mixes channels")
    return call.input


def softmax(call: Call) -> Tensor:
    """Mixes along its axis, and lets the others be."""
    axis = call.layer.axis
    numbers = axis if isinstance(axis, (list, tuple)) else (axis,)
    for number in numbers:
        call.freeze(call.inputs[0][number], "is softmax, which mixes it")
    return call.inputs[0]


def prelu(call: Call) -> Tensor:
    """Slopes of the input's shape without batch; axes that are shared have size 1."""
    alpha = call.weights("alpha")["alpha"]
    for number, axis in enumerate(call.input[1:]):
        if axis.named and int(alpha.shape[number]) > 1:
            call.bind(alpha, number, axis)
    return call.input


def rescaling(call: Call) -> Tensor:
    """One scale and offset for all values."""
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise Opaque(f"{call.key} scales each channel by a number in its settings")
    return call.input


def layer_scale(call: Call) -> Tensor:
    """ConvNeXt's own layer: one factor per channel."""
    gamma = call.weights("gamma", "Variable", "variable")
    axis = call.input[-1]
    for variable in gamma.values():
        call.bind(variable, 0, axis)
    call.edit("projection_dim", (axis,))
    return call.input


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.Add: merge,
        layers.Subtract: merge,
        layers.Multiply: merge,
        layers.Average: merge,
        layers.Maximum: merge,
        layers.Minimum: merge,
        layers.BatchNormalization: batch_normalisation,
        layers.Activation: elementwise,
        layers.ReLU: elementwise,
        layers.LeakyReLU: elementwise,
        layers.ELU: elementwise,
        layers.Softmax: softmax,
        layers.PReLU: prelu,
        layers.Rescaling: rescaling,
        # Layers that keras.applications keeps to itself, without a public name.
        LayerScale: layer_scale,
        CustomScaleLayer: merge,
    }
)
