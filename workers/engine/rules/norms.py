"""Normalisations over channels: what stays is normalised among itself.

Their statistics change when channels go, in the reduced model as in the original that it is
compared with, where they are taken over the channels that stay.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.channels import Call, Opaque, Reference, Rule, Values
from workers.engine.ids import Axis, Tensor

layers = keras.layers
Kept = Callable[[Axis], NDArray[np.bool_]]


def layer_normalisation(call: Call) -> Tensor:
    """Scale and offset have the shape of the axes that it normalises over."""
    if getattr(call.layer, "rms_scaling", False):
        raise Opaque(f"{call.key} scales by its variance, which Keras has deprecated")
    weights = call.weights("gamma", "beta")
    numbers = _numbers(call)
    for variable in weights.values():
        _bind_all(call, variable, numbers)
    _compare(call, numbers, _standardised, weights.get("gamma"), weights.get("beta"))
    return call.input


def rms_normalisation(call: Call) -> Tensor:
    """The scale has the shape of the axes that it normalises over."""
    scale = call.weights("scale")["scale"]
    numbers = _numbers(call)
    _bind_all(call, scale, numbers)
    _compare(call, numbers, _root_mean_squared, scale, None)
    return call.input


def unit_normalisation(call: Call) -> Tensor:
    """Divides by the norm: removed channels count as zero."""
    numbers = _numbers(call)
    _compare(call, numbers, None, None, None)
    return call.input


def group_normalisation(call: Call) -> Tensor:
    """Each group of channels, over all positions; groups lose the same positions."""
    layer, x = call.layer, call.input
    weights = call.weights("gamma", "beta")
    number = call.axis(layer.axis)
    channels = x[number]
    for other, axis in enumerate(x):
        if other != number:
            call.walk.freeze(axis, f"{call.key} normalises over it")
    each = (channels.size or 0) // layer.groups
    if each == 1:
        call.edit("groups", (channels,))
    elif layer.groups > 1:
        call.walk.tie(channels, layer.groups, call.key)
    for variable in weights.values():
        call.bind(variable, 0, channels)
    if channels.named and call.node is not None and each > 1:
        call.walk.references[id(call.node)] = _grouped(call, number)
    elif channels.named and each > 1:
        call.freeze(channels, "normalises over it inside another layer")
    return x


def _numbers(call: Call) -> list[int]:
    axis = call.layer.axis
    given = axis if isinstance(axis, (list, tuple)) else [axis]
    return sorted(call.axis(number) for number in given)


def _bind_all(call: Call, variable: Any, numbers: Sequence[int]) -> None:
    for position, number in enumerate(numbers):
        call.bind(variable, position, call.input[number])


Normalise = Callable[[Values, Values, float], Values]


def _standardised(values: Values, kept: Values, epsilon: float) -> Values:
    """(x - mean) / sqrt(variance + epsilon) over the last axis' kept entries."""
    count = kept.sum()
    mean = (values * kept).sum(-1, keepdims=True) / count
    variance = (np.square(values - mean) * kept).sum(-1, keepdims=True) / count
    result: Values = (values - mean) / np.sqrt(variance + epsilon)
    return result


def _root_mean_squared(values: Values, kept: Values, epsilon: float) -> Values:
    """x / sqrt(mean(x²) + epsilon) over the last axis' kept entries."""
    mean = (np.square(values) * kept).sum(-1, keepdims=True) / kept.sum()
    result: Values = values / np.sqrt(mean + epsilon)
    return result


def _compare(
    call: Call, numbers: Sequence[int], normalise: Normalise | None, scale: Any, offset: Any
) -> None:
    """Let the original's call take its statistics over the channels that stay."""
    axes = [call.input[number] for number in numbers]
    if not any(axis.named for axis in axes):
        return
    if call.node is None:
        for axis in axes:
            call.freeze(axis, "normalises over it inside another layer")
        return
    call.walk.references[id(call.node)] = _reference(
        axes, list(numbers), normalise, getattr(call.layer, "epsilon", 0.0), scale, offset
    )


def _reference(
    axes: Sequence[Axis],
    numbers: list[int],
    normalise: Normalise | None,
    epsilon: float,
    scale: Any,
    offset: Any,
) -> Reference:
    def compute(run: Any, inputs: list[Values], kept: Kept) -> list[Values]:
        values = inputs[0].astype(np.float64)
        stays = np.ones((), dtype=np.bool_)
        for axis in axes:
            stays = np.logical_and.outer(stays, kept(axis))
        last = list(range(values.ndim - len(numbers), values.ndim))
        if normalise is None:
            back = np.moveaxis(np.moveaxis(values, numbers, last) * stays, last, numbers)
            found: list[Values] = run([back.astype(inputs[0].dtype)])
            return found
        moved = np.moveaxis(values, numbers, last)
        flat = moved.reshape(*moved.shape[: last[0]], -1)
        result = normalise(flat, stays.reshape(-1).astype(np.float64), epsilon)
        for variable, apply in ((scale, np.multiply), (offset, np.add)):
            if variable is not None:
                result = apply(result, graph.values(variable).reshape(-1))
        back = np.moveaxis(result.reshape(moved.shape), last, numbers)
        return [back.astype(inputs[0].dtype)]

    return compute


def _grouped(call: Call, number: int) -> Reference:
    channels, layer = call.input[number], call.layer
    gamma, beta = (getattr(layer, name, None) for name in ("gamma", "beta"))

    def compute(run: Any, inputs: list[Values], kept: Kept) -> list[Values]:
        values = np.moveaxis(inputs[0].astype(np.float64), number, -1)
        shape = values.shape
        grid = values.reshape(shape[0], -1, layer.groups, shape[-1] // layer.groups)
        grid = np.moveaxis(grid, 2, 1)
        stays = kept(channels).reshape(layer.groups, -1).astype(np.float64)
        weights = np.broadcast_to(stays[:, None, :], grid.shape[1:])
        count = weights.sum((1, 2))[None, :, None, None]
        mean = (grid * weights).sum((2, 3), keepdims=True) / count
        variance = (np.square(grid - mean) * weights).sum((2, 3), keepdims=True) / count
        result = np.moveaxis((grid - mean) / np.sqrt(variance + layer.epsilon), 1, 2)
        result = result.reshape(shape)
        if gamma is not None:
            result = result * graph.values(gamma)
        if beta is not None:
            result = result + graph.values(beta)
        return [np.moveaxis(result, -1, number).astype(inputs[0].dtype)]

    return compute


def normalization(call: Call) -> Tensor:
    """Keras' preprocessing layer: mean and variance are of the input's shape; it stays."""
    for axis in call.input[1:]:
        call.freeze(axis, "standardises it by stored statistics")
    return call.input


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.LayerNormalization: layer_normalisation,
        layers.RMSNormalization: rms_normalisation,
        layers.UnitNormalization: unit_normalisation,
        layers.GroupNormalization: group_normalisation,
        layers.Normalization: normalization,
    }
)
