"""Operations of `keras.ops.nn` and `keras.ops.image` over channels or over positions."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from workers.engine.channels import Call, Rule, Run, Values
from workers.engine.ids import Axis, Tensor
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.operands import (
    Arguments,
    Operand,
    array,
    axes_of,
    axis_of,
    follow,
)


def gated(call: Call) -> tuple[Tensor, ...]:
    """One half of an axis gates the other: both lose the same."""
    x = list(call.input)
    number = axis_of(call, call.layer.axis, len(x))
    if x[number].named:
        x[number] = call.walk.tie(x[number], 2, call.key)
    else:
        x[number] = Axis(call.shape[number])
    return (call.fitted(x),)


def normalised(call: Call) -> tuple[Tensor, ...]:
    """By statistics over what stays of its axes; scales and offsets that are constant follow."""
    given = Arguments(call)
    x, *others = given.operands()
    numbers = axes_of(call, call.layer.axis, len(x.axes))
    mine = {number: x.axes[number] for number in numbers if x.axes[number].named}
    for other in others:
        if other.constant:
            follow(call, other, {n: x.axes[along] for n, along in _paired(other.axes, numbers)})
        else:
            call.freeze((*other.axes, *mine.values()), "normalises by another tensor")
    if mine and all(other.constant for other in others):
        _compare(call, x, others, numbers)
    return (x.axes,)


def _paired(axes: Sequence[Any], numbers: Sequence[int]) -> list[tuple[int, int]]:
    """A constant's axes and those that are normalised over, from the right."""
    shift = len(numbers) - len(axes)
    return [(n, numbers[n + shift]) for n in range(len(axes)) if n + shift >= 0]


def _compare(call: Call, x: Operand, others: Sequence[Operand], numbers: Sequence[int]) -> None:
    """Let the original's call normalise what stays by itself; what is removed counts as zero."""
    named = {number: x.axes[number] for number in numbers if x.axes[number].named}

    def compute(run: Run, inputs: list[Values], kept: Any) -> list[Values]:
        values = inputs[x.number or 0]
        stays = {number: np.flatnonzero(kept(axis)) for number, axis in named.items()}
        place = np.ix_(*[stays.get(n, np.arange(size)) for n, size in enumerate(values.shape)])
        given = {x.place: values[place]}
        for other in others:
            small = array(call, other.value)
            for n, along in _paired(other.axes, numbers):
                if along in stays and small.shape[n] == values.shape[along]:
                    small = np.take(small, stays[along], axis=n)
            given[other.place] = small
        found = np.zeros_like(values)
        found[place] = _called(call, given)
        return [found]

    call.walk.references[id(call.node)] = compute


def _called(call: Call, values: Mapping[Any, Values]) -> Values:
    """The operation on other values at the top of its arguments."""
    arguments = call.node.arguments
    args, kwargs = list(arguments.args), dict(arguments.kwargs)
    for (where,), value in values.items():
        if isinstance(where, str):
            kwargs[where] = keras.ops.convert_to_tensor(value)
        else:
            args[where] = keras.ops.convert_to_tensor(value)
    found: Values = keras.ops.convert_to_numpy(call.layer(*args, **kwargs))
    return found


def batch_normalised(call: Call) -> tuple[Tensor, ...]:
    """Mean, variance, offset and scale (channels,) belong to the channels of its axis."""
    x, *others = Arguments(call).operands()
    axis = x.axes[axis_of(call, call.layer.axis, len(x.axes))]
    for other in others:
        follow(call, other, {0: axis})
        if not other.constant:
            axis = call.walk.unite(axis, other.axes[0], call.key)
    return (call.fitted(x.axes),)


def channelwise(images: bool) -> Rule:
    """Every channel by itself; positions are pooled, moved, padded or cropped.

    `images`: without a batch axis where there are three axes.
    """

    def rule(call: Call) -> tuple[Tensor, ...]:
        x, *others = Arguments(call).operands()
        layout = call.layer.data_format or keras.config.image_data_format()
        channels = len(x.axes) - 1
        if layout == "channels_first":
            channels = 0 if images and len(x.axes) == 3 else 1
        for number, axis in enumerate(x.axes):
            if number != channels:
                call.freeze(axis, "takes it for positions")
        for other in others:
            call.freeze(other.axes, "moves positions by it")
        axes = [Axis(size) for size in call.shape]
        axes[channels] = x.axes[channels]
        return (call.fitted(axes),)

    return rule


def one_hot(call: Call) -> tuple[Tensor, ...]:
    """Whole numbers become an axis of classes."""
    call.freeze(call.input, "reads whole numbers")
    return (call.fitted([Axis(size) for size in call.shape]),)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(gated, "Glu"),
        **each(normalised, "LayerNorm", "RMSNorm", "Normalize"),
        **each(batch_normalised, "BatchNorm"),
        **each(
            channelwise(images=False),
            *("MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool"),
        ),
        **each(
            channelwise(images=True),
            *("Resize", "PadImages", "CropImages", "GaussianBlur"),
            *("AffineTransform", "PerspectiveTransform", "ElasticTransform"),
        ),
        **each(one_hot, "OneHot"),
    }
)
