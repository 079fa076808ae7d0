"""What the kernels of a layer read: sums of squares of their inputs, in the kernel's own axes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

layers = keras.layers
ops = keras.ops

Squares = list[tuple[Any, Any]]
"""Pairs of a variable and the sums of squares, over samples and positions, of what its entries
read. The sums have as many axes as the variable, with size 1 along those that do not matter."""
Reader = Callable[[Any, Callable[..., Any], Any], Squares]
"""Of a layer, its call, and the tensor that it is called with."""


def reader_of(layer: Any) -> Reader | None:
    """How to tell what a layer's kernels read; None for layers without, or of another kind."""
    return next((READERS[kind] for kind in type(layer).__mro__ if kind in READERS), None)


def _sums(x: Any, axis: int) -> Any:
    """Sums of squares over all axes but one, (size of that axis,)."""
    kept = axis % len(x.shape)
    others = [other for other in range(len(x.shape)) if other != kept]
    return ops.sum(ops.square(ops.cast(x, "float32")), axis=others)


def _channels(layer: Any, x: Any) -> Any:
    """Sums of squares of each channel of images, (channels,)."""
    return _sums(x, 1 if layer.data_format == "channels_first" else -1)


def _placed(sums: Any, variable: Any, axis: int) -> Any:
    """(size,) along one axis of a variable, 1 along the others."""
    shape = [1] * len(variable.shape)
    shape[axis] = -1
    return ops.reshape(sums, shape)


def dense(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Kernel (inputs, units)."""
    return [(layer.kernel, _placed(_sums(x, -1), layer.kernel, 0))]


def convolution(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Kernel (*window, inputs of a group, filters); each group of filters reads its own inputs.

    All places of the window count alike, though padding hides some inputs from some of them.
    """
    by_group = ops.transpose(ops.reshape(_channels(layer, x), (layer.groups, -1)))
    by_filter = ops.repeat(by_group, layer.filters // layer.groups, axis=1)
    window = (1,) * (len(layer.kernel.shape) - 2)
    return [(layer.kernel, ops.reshape(by_filter, (*window, *by_filter.shape)))]


def transposed_convolution(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Kernel (*window, filters, inputs)."""
    return [(layer.kernel, _placed(_channels(layer, x), layer.kernel, -1))]


def depthwise_convolution(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Kernel (*window, inputs, multiplier)."""
    return [(layer.kernel, _placed(_channels(layer, x), layer.kernel, -2))]


def separable_convolution(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Depthwise kernel (*window, inputs, multiplier), then pointwise (1s, that many, filters)."""
    between = ops.depthwise_conv(
        x,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )
    deep, wide = layer.depthwise_kernel, layer.pointwise_kernel
    return [
        (deep, _placed(_channels(layer, x), deep, -2)),
        (wide, _placed(_channels(layer, between), wide, -2)),
    ]


def einsum_dense(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Any kernel: what is summed over are the input's axes that the kernel does not name."""
    left, named = layer.equation.replace(" ", "").split("->")[0].split(",")
    rest = len(x.shape) - len(left.replace("...", ""))
    axes = left.replace("...", "." * rest)
    others = [axis for axis, letter in enumerate(axes) if letter not in named]
    sums = ops.sum(ops.square(ops.cast(x, "float32")), axis=others)
    left_over = [letter for letter in axes if letter in named]
    order = sorted(range(len(left_over)), key=lambda axis: named.index(left_over[axis]))
    sizes = zip(named, layer.kernel.shape, strict=True)
    shape = [size if letter in left_over else 1 for letter, size in sizes]
    return [(layer.kernel, ops.reshape(ops.transpose(sums, order), shape))]


def embedding(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Embeddings (vocabulary, dimensions): a Dense layer on one-hot rows, so squares are counts."""
    indexes = ops.cast(ops.reshape(x, (-1,)), "int32")
    ones = ops.ones_like(indexes, dtype="float32")
    counts = ops.segment_sum(ones, indexes, num_segments=layer.input_dim)
    return [(layer.embeddings, _placed(counts, layer.embeddings, 0))]


def recurrent(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """Kernel (*window, inputs, gates·units) and recurrent kernel (*window, units, gates·units).

    The latter reads the states after every step but the last; a first state that is handed in is
    left out.
    """
    cell = layer.cell
    if not hasattr(cell, "recurrent_kernel"):
        return []
    axis = 2 if getattr(cell, "data_format", None) == "channels_first" else -1
    found = [(cell.kernel, _placed(_sums(x, axis), cell.kernel, -2))]
    if not layer.stateful:
        states = _states(layer, call, x)[:, :-1]
        found.append(
            (cell.recurrent_kernel, _placed(_sums(states, axis), cell.recurrent_kernel, -2))
        )
    return found


def _states(layer: Any, call: Callable[..., Any], x: Any) -> Any:
    """The state after every step, (samples, steps, …)."""
    settings = {"return_sequences": True, "return_state": False}
    before = {name: getattr(layer, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(layer, name, value)
        return call(x, training=False)
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


def time_distributed(layer: Any, call: Callable[..., Any], x: Any) -> Squares:
    """The inner layer sees every step as a sample of its own."""
    inner = layer.layer
    reader = reader_of(inner)
    if reader is None:
        return []
    return reader(inner, inner.call, ops.reshape(x, (-1, *x.shape[2:])))


READERS: Mapping[type, Reader] = MappingProxyType(
    {
        layers.Dense: dense,
        layers.Conv1D: convolution,
        layers.Conv2D: convolution,
        layers.Conv3D: convolution,
        layers.Conv1DTranspose: transposed_convolution,
        layers.Conv2DTranspose: transposed_convolution,
        layers.Conv3DTranspose: transposed_convolution,
        layers.DepthwiseConv1D: depthwise_convolution,
        layers.DepthwiseConv2D: depthwise_convolution,
        layers.SeparableConv1D: separable_convolution,
        layers.SeparableConv2D: separable_convolution,
        layers.EinsumDense: einsum_dense,
        layers.Embedding: embedding,
        layers.RNN: recurrent,
        layers.TimeDistributed: time_distributed,
    }
)
