"""Tiers: layers that unite the names that meet in them, or bind weights to the same names."""

from collections.abc import Mapping
from types import MappingProxyType

import keras
import numpy as np

from workers.engine.channels import Call, Opaque, Rule, Shape
from workers.engine.ids import Ids, compact, varying_axes
from workers.engine.rules.activations import is_elementwise

layers = keras.layers


def merge(call: Call) -> Ids:
    """Elementwise over several inputs, with numpy's broadcasting.

    An axis of size 1 that meets many channels is frozen: it belongs to all of them, and uniting
    them would tie them all.
    """
    rank = len(call.shape)
    result = _widened(call.inputs[0], call.shape)
    result_shape: Shape = _padded(call.input_shapes[0], rank)
    for ids, shape in zip(call.inputs[1:], call.input_shapes[1:], strict=True):
        result = _meet(call, result, result_shape, _widened(ids, call.shape), _padded(shape, rank))
        result_shape = tuple(
            b if a == 1 else a for a, b in zip(result_shape, _padded(shape, rank), strict=True)
        )
    return np.broadcast_to(result, call.shape)


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _widened(ids: Ids, shape: tuple[int, ...]) -> Ids:
    small = compact(ids)
    return small.reshape((1,) * (len(shape) - ids.ndim) + small.shape)


def _meet(call: Call, left: Ids, left_shape: Shape, right: Ids, right_shape: Shape) -> Ids:
    reason = f"{call.layer.name} broadcasts it over many channels"
    sizes = zip(left_shape, right_shape, strict=True)
    differ = [axis for axis, (one, other) in enumerate(sizes) if one != other]
    left, right = _drawn_together(call, left, differ), _drawn_together(call, right, differ)
    many = [a for a in varying_axes(left) if a in differ]
    more = [a for a in varying_axes(right) if a in differ]
    if many and more:
        call.walk.freeze(left, reason)
        call.walk.freeze(right, reason)
        return _one(left)
    for wide, narrow, axes, lengths in (
        (left, right, many, right_shape),
        (right, left, more, left_shape),
    ):
        if axes:
            call.walk.freeze(narrow, reason)
            if any(lengths[axis] is None for axis in axes):
                call.walk.freeze(wide, f"{call.layer.name} merges it with an unknown length")
                return _one(wide)
            return wide
    call.walk.names.unite(left, right)
    return left if left.size >= right.size else right


def _drawn_together(call: Call, ids: Ids, differ: list[int]) -> Ids:
    """One name along the axes whose sizes differ, where the names change along others as well."""
    axes = varying_axes(ids)
    if set(axes) <= set(differ):
        return ids
    for axis in set(axes) & set(differ):
        call.walk.names.unite(ids, ids.take([0], axis))
        ids = ids.take([0], axis)
    return ids


def _one(frozen: Ids) -> Ids:
    """One frozen name for everything."""
    return frozen.ravel()[:1].reshape((1,) * frozen.ndim)


def batch_normalisation(call: Call) -> Ids:
    """Scale, offset, mean and variance (channels,) belong to the channels along its axis."""
    weights = call.weights("gamma", "beta", "moving_mean", "moving_variance")
    axis = call.axis(call.layer.axis, call.ids)
    line = call.line(axis)
    for variable in weights.values():
        call.bind(variable, 0, line)
    return call.spread(line, axis)


def depthwise_convolution(call: Call) -> Ids:
    """Kernel (*window, inputs, multiplier): each channel makes `multiplier` of its own."""
    weights = call.weights("kernel", "depthwise_kernel", "bias")
    line = call.line()
    repeated = np.repeat(line, call.layer.depth_multiplier)
    kernel = weights.get("kernel", weights.get("depthwise_kernel"))
    call.bind(kernel, -2, line)
    if "bias" in weights:
        call.bind(weights["bias"], 0, repeated)
    if not is_elementwise(call.layer.activation):
        call.walk.freeze(repeated, f"{call.layer.name} ends in an activation that mixes channels")
    return call.spread(repeated)


def elementwise(call: Call) -> Ids:
    """An activation of its own; frozen where it mixes channels."""
    if not is_elementwise(getattr(call.layer, "activation", None)):
        name = getattr(call.layer.activation, "__name__", "an unknown function")
        raise Opaque(f"{call.layer.name} is {name}, which mixes channels")
    return call.ids


def prelu(call: Call) -> Ids:
    """Slopes of the input's shape without batch; axes that are shared have size 1."""
    alpha = call.weights("alpha")["alpha"]
    ids = call.ids
    axes = varying_axes(ids)
    if axes:
        line = call.line(axes[-1])
        if int(alpha.shape[axes[-1]]) > 1:
            call.bind(alpha, axes[-1], line)
    return ids


def rescaling(call: Call) -> Ids:
    """One scale and offset for all values."""
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise Opaque(f"{call.layer.name} scales each channel by a number in its settings")
    return call.ids


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.Add: merge,
        layers.Subtract: merge,
        layers.Multiply: merge,
        layers.Average: merge,
        layers.Maximum: merge,
        layers.Minimum: merge,
        layers.BatchNormalization: batch_normalisation,
        layers.DepthwiseConv1D: depthwise_convolution,
        layers.DepthwiseConv2D: depthwise_convolution,
        layers.Activation: elementwise,
        layers.ReLU: elementwise,
        layers.LeakyReLU: elementwise,
        layers.ELU: elementwise,
        layers.PReLU: prelu,
        layers.Rescaling: rescaling,
    }
)
