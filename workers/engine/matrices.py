"""Kernels as matrices of inputs by outputs: the one place that knows the layouts of Keras."""

from typing import Any

import keras

from workers.engine.patterns import Matrix

layers = keras.layers

INPUTS_BY_OUTPUTS = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.SimpleRNNCell,
    layers.LSTMCell,
    layers.GRUCell,
)
"""The last two axes of their kernels are inputs and outputs (of all gates); window axes before."""
OUTPUTS_BY_INPUTS = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
"""The last two axes of their kernels are outputs and inputs; window axes before."""
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
PRIVATE_CELLS = frozenset({"ConvLSTMCell"})
"""Laid out as `INPUTS_BY_OUTPUTS`; Keras does not export the class."""


def as_matrix(layer: Any, variable: Any) -> Matrix | str:
    """A kernel's input and output axes, or, in words, why it is no matrix.

    Args:
        layer: a layer of the model's top level; the kernel may be a nested layer's.
        variable: a kernel of it.
    """
    shape = tuple(int(size) for size in variable.shape)
    owner = _owner(layer, variable)
    if variable.name == "depthwise_kernel" or isinstance(owner, DEPTHWISE):
        return "left as it is: each output of a depthwise kernel reads one channel only"
    if variable.name == "embeddings":
        return "left as it is: an embedding looks rows up, and has no inputs to sum over"
    if isinstance(owner, layers.EinsumDense):
        return _contracted(owner.equation, shape)
    rank = len(shape)
    if isinstance(owner, OUTPUTS_BY_INPUTS):
        return Matrix(shape, (rank - 1,), (rank - 2,))
    if (
        isinstance(owner, INPUTS_BY_OUTPUTS)
        or variable.name == "pointwise_kernel"
        or type(owner).__name__ in PRIVATE_CELLS
    ):
        return Matrix(shape, (rank - 2,), (rank - 1,))
    return (
        f"left as it is: which axes of {type(owner).__name__}'s {variable.name} are inputs is "
        "not known"
    )


def _owner(layer: Any, variable: Any) -> Any:
    """The innermost layer that holds `variable`."""
    owner = layer
    for each in layer._flatten_layers(include_self=True, recursive=True):
        if any(weight is variable for weight in each.weights):
            owner = each
    return owner


def _contracted(equation: str, shape: tuple[int, ...]) -> Matrix | str:
    """Axes of the kernel in an einsum of data and kernel: those it sums over are the inputs."""
    operands, result = equation.replace(" ", "").split("->")
    data, kernel = operands.split(",")
    inputs = tuple(axis for axis, name in enumerate(kernel) if name not in result)
    outputs = tuple(axis for axis, name in enumerate(kernel) if name in result and name not in data)
    if not inputs:
        return f"left as it is: {equation} sums over none of the kernel's axes"
    return Matrix(shape, inputs, outputs)
