"""Makers: layers that mint the names of their outputs and read those of their inputs."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor, repeated
from workers.engine.rules.activations import activated

layers = keras.layers


def dense(call: Call) -> Tensor:
    """Kernel (inputs, units): rows read the last axis, columns are the units."""
    weights = call.weights("kernel", "bias")
    kernel, x = weights["kernel"], call.input
    call.bind(kernel, 0, x[-1], reads=True)
    made = call.make(kernel, 1)
    call.walk.kernel_work(call.key, kernel, x[1:-1])
    return call.replaced(len(x) - 1, _finish(call, weights, made, "units"))


def convolution(call: Call) -> Tensor:
    """Kernel (*window, inputs of a group, filters)."""
    weights = call.weights("kernel", "bias")
    kernel, channels, groups = weights["kernel"], _channels(call), call.layer.groups
    each = int(kernel.shape[-2])
    if groups == 1:
        call.bind(kernel, -2, channels, reads=True)
        made = call.make(kernel, -1)
    elif each == 1:
        # A depthwise convolution by another name: each channel makes some of its own.
        made = repeated(channels, int(kernel.shape[-1]) // groups)
        call.bind(kernel, -1, made)
        call.edit("groups", (channels,))
    else:
        call.bind(kernel, -2, call.walk.tie(channels, groups, call.key), reads=True)
        filters = int(kernel.shape[-1])
        made = call.make(kernel, -1, call.walk.make(call.key, call.layer, filters, groups=groups))
    call.walk.kernel_work(call.key, kernel, _space(call, call.shape))
    return _spread(call, _finish(call, weights, made, "filters"))


def transposed_convolution(call: Call) -> Tensor:
    """Kernel (*window, filters, inputs)."""
    weights = call.weights("kernel", "bias")
    kernel = weights["kernel"]
    call.bind(kernel, -1, _channels(call), reads=True)
    made = call.make(kernel, -2)
    before = [axis.size for axis in call.input]
    call.walk.kernel_work(call.key, kernel, _space(call, before))
    return _spread(call, _finish(call, weights, made, "filters"))


def separable_convolution(call: Call) -> Tensor:
    """Depthwise kernel (*window, inputs, multiplier), pointwise (1s, inputs·multiplier, filters).

    The rows of the pointwise kernel are the ones that read.
    """
    weights = call.weights("depthwise_kernel", "pointwise_kernel", "bias")
    deep, point, channels = (
        weights["depthwise_kernel"],
        weights["pointwise_kernel"],
        _channels(call),
    )
    call.bind(deep, -2, channels)
    call.bind(point, -2, repeated(channels, call.layer.depth_multiplier), reads=True)
    made = call.make(point, -1)
    for kernel in (deep, point):
        call.walk.kernel_work(call.key, kernel, _space(call, call.shape))
    return _spread(call, _finish(call, weights, made, "filters"))


def depthwise_convolution(call: Call) -> Tensor:
    """Kernel (*window, inputs, multiplier): each channel makes `multiplier` of its own."""
    weights = call.weights("kernel", "depthwise_kernel", "bias")
    kernel, channels = weights.get("kernel", weights.get("depthwise_kernel")), _channels(call)
    call.bind(kernel, -2, channels)
    made = repeated(channels, call.layer.depth_multiplier)
    if "bias" in weights:
        call.bind(weights["bias"], 0, made)
    call.walk.kernel_work(call.key, kernel, _space(call, call.shape))
    return _spread(call, activated(call, made))


def embedding(call: Call) -> Tensor:
    """Embeddings (vocabulary, dimensions): the dimensions are the units."""
    table = call.weights("embeddings")["embeddings"]
    call.freeze(call.input, "reads whole numbers")
    made = call.make(table, 1)
    call.edit("output_dim", (made,))
    return (*call.input, made)


def reversible_embedding(call: Call) -> Tensor:
    """An embedding that is also called backwards, from dimensions to the vocabulary."""
    weights = call.weights("embeddings", "reverse_embeddings")
    table = weights["embeddings"]
    made = call.make(table, 1)
    call.edit("output_dim", (made,))
    other = weights.get("reverse_embeddings")
    if other is not None:
        call.bind(other, 0, made, reads=True)
    if not (call.node is not None and reversed_call(call)):
        call.freeze(call.input, "reads whole numbers")
        return (*call.input, made)
    x = call.input
    if other is None:
        call.bind(table, 1, x[-1], reads=True)
    else:
        call.bind(other, 0, x[-1], reads=True)
    call.walk.kernel_work(call.key, table, x[1:-1])
    return call.replaced(len(x) - 1, Axis(int(table.shape[0])))


def reversed_call(call: Call) -> bool:
    """Whether this call has reverse=True."""
    given = call.node.arguments
    return bool(given.kwargs.get("reverse", given.args[1] if len(given.args) > 1 else False))


def _channels(call: Call) -> Axis:
    """The channel axis of the input; whatever is named along other axes stays."""
    x = call.input
    for number, axis in enumerate(x):
        if number != call.channel_axis:
            call.walk.freeze(axis, f"its units are positions, not channels, to {call.key}")
    return x[call.channel_axis]


def _space(call: Call, shape: Any) -> list[Axis]:
    return [Axis(n) for i, n in enumerate(shape) if i not in (0, call.channel_axis)]


def _spread(call: Call, made: Axis) -> Tensor:
    """The output's axes: positions belong to nobody."""
    axes = [Axis(size) for size in call.shape]
    axes[call.channel_axis] = made
    return call.fitted(axes)


def _finish(call: Call, weights: Mapping[str, Any], made: Axis, setting: str) -> Axis:
    if "bias" in weights:
        call.bind(weights["bias"], 0, made)
    call.edit(setting, (made,))
    return activated(call, made)


def einsum_dense(call: Call) -> Tensor:
    """Kernel axes by their letters: read by the input, made for the output, or carried through.

    A letter of input, kernel and output alike (one matrix per group or head) is carried through.
    """
    weights = call.weights("kernel", "bias")
    kernel, x = weights["kernel"], call.input
    read, held, written = _letters(call, len(x))
    axes = dict(zip(read, x, strict=True))
    fresh = [letter for letter in held if letter not in axes]
    if set(written) - set(axes) - set(fresh):
        raise Opaque(f"{call.key} has an equation that is not understood: {call.layer.equation}")
    for letter in read:
        if letter not in held and letter not in written and axes[letter].named:
            call.freeze(axes[letter], "sums over it")
    for number, letter in enumerate(held):
        if letter in axes:
            call.bind(kernel, number, axes[letter], reads=letter not in written)
    for letter in fresh:
        number, key = held.index(letter), f"{call.key}:{letter}" if len(fresh) > 1 else call.key
        made = call.walk.make(key, call.layer, int(kernel.shape[number]), key=call.key)
        call.bind(kernel, number, made)
        call.walk.slot(key, kernel, number, made)
        axes[letter] = made
    if "bias" in weights:
        _bind_einsum_bias(call, weights["bias"], [axes[letter] for letter in written])
    positions = [axes[letter] for letter in dict.fromkeys((*read, *written)) if letter not in held]
    call.walk.kernel_work(call.key, kernel, positions[1:])
    out = call.fitted([axes[letter] for letter in written])
    given = call.layer.partial_output_shape
    call.edit(
        "output_shape",
        out[len(out) - len(given) :],
        lambda sizes: [None if old is None else new for old, new in zip(given, sizes, strict=True)],
    )
    for letter in fresh:
        activated(call, axes[letter])
    return out


def _letters(call: Call, rank: int) -> tuple[str, str, str]:
    """The equation's three terms, dots spelled out."""
    equation = call.layer.equation.replace(" ", "")
    left, written = equation.split("->")
    read, held = left.split(",")
    if "..." in equation:
        free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
        dots = "".join(free[: rank - len(read.replace("...", ""))])
        read, held, written = (term.replace("...", dots) for term in (read, held, written))
    if len(read) != rank or len(set(read)) != len(read):
        raise Opaque(f"{call.key} has an equation that is not understood: {equation}")
    return read, held, written


def _bind_einsum_bias(call: Call, bias: Any, out: list[Axis]) -> None:
    """The bias is broadcast against the end of the output's axes."""
    rank = len(bias.shape)
    for number, axis in enumerate(out[len(out) - rank :]):
        if int(bias.shape[number]) > 1:
            call.bind(bias, number, axis)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.Dense: dense,
        layers.EinsumDense: einsum_dense,
        layers.Conv1D: convolution,
        layers.Conv2D: convolution,
        layers.Conv3D: convolution,
        layers.Conv1DTranspose: transposed_convolution,
        layers.Conv2DTranspose: transposed_convolution,
        layers.Conv3DTranspose: transposed_convolution,
        layers.SeparableConv1D: separable_convolution,
        layers.SeparableConv2D: separable_convolution,
        layers.DepthwiseConv1D: depthwise_convolution,
        layers.DepthwiseConv2D: depthwise_convolution,
        layers.Embedding: embedding,
        layers.ReversibleEmbedding: reversible_embedding,
    }
)
