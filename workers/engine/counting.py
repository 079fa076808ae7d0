"""Parameters and multiply-accumulates (MACs) per sample, by layer.

MACs are those of Dense, convolution and recurrent kernels, as is usual; biases, normalisation and
activations are not counted. Every kernel entry is used once per output position.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from workers.engine import graph
from workers.engine.channels import Shape

layers = keras.layers


@dataclass(frozen=True)
class LayerCounts:
    """One layer's figures."""

    name: str
    class_name: str
    parameters: int
    nonzero_parameters: int
    macs: int
    units: int | None
    output_shape: Shape | None
    """With the batch axis first; the first output of the first call."""


@dataclass(frozen=True)
class Counts:
    """A model's figures; MACs are per sample."""

    parameters: int
    nonzero_parameters: int
    macs: int
    macs_exact: bool
    """False where an axis of unknown length counted as 1, or a layer's work is not known."""
    layers: tuple[LayerCounts, ...]

    @cached_property
    def by_name(self) -> Mapping[str, LayerCounts]:
        """The layers' figures by name."""
        return {layer.name: layer for layer in self.layers}


@dataclass(frozen=True)
class Use:
    """A kernel, and how many positions per sample one call applies it to."""

    variable: Any
    positions: int


Work = Callable[[Any, Shape, Shape], dict[str, int]]


def _length(shape: Shape) -> int:
    return math.prod(1 if size is None else size for size in shape)


def _space(layer: Any, shape: Shape) -> int:
    return _length(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _dense(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return {"kernel": _length(after[:-1])}


def _convolution(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return {"kernel": _space(layer, after)}


def _transposed(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return {"kernel": _space(layer, before)}


def _separable(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return dict.fromkeys(("depthwise_kernel", "pointwise_kernel"), _space(layer, after))


def _recurrent(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return dict.fromkeys(("kernel", "recurrent_kernel"), _length(before[:-1]))


def _none(layer: Any, before: Shape, after: Shape) -> dict[str, int]:
    return {}


WORK: Mapping[type, Work] = MappingProxyType(
    {
        layers.Dense: _dense,
        **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
        **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _convolution),
        **dict.fromkeys(
            (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed
        ),
        **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
        **dict.fromkeys((layers.SimpleRNN, layers.LSTM, layers.GRU), _recurrent),
        layers.Embedding: _none,
    }
)


def uses(model: Any) -> tuple[dict[str, list[Use]], bool]:
    """Kernel uses by the top-level layer they happen in, and whether all are known exactly."""
    found: dict[str, list[Use]] = {}
    exact = True
    for node in graph.calls(model):
        if not node.input_tensors:
            continue
        mine, sure = _uses_of(node)
        found.setdefault(node.operation.name, []).extend(mine)
        exact = exact and sure
    return found, exact


def _uses_of(node: Any) -> tuple[list[Use], bool]:
    layer = node.operation
    if graph.is_graph(layer):
        inner, exact = uses(layer)
        return [use for each in inner.values() for use in each], exact
    weights = {variable.name: variable for variable in getattr(layer, "weights", ())}
    work = WORK.get(type(layer))
    if work is None:
        return [], not set(weights) & graph.KERNELS
    before, after = (tuple(t[0].shape[1:]) for t in (node.input_tensors, node.output_tensors))
    positions = work(layer, before, after)
    exact = not positions or None not in before + after
    return [Use(weights[name], times) for name, times in positions.items()], exact


Size = Callable[[Any], int]
Describe = Callable[[Any], tuple[int | None, Shape | None]]


def tally(model: Any, size: Size, nonzero: Size, describe: Describe) -> Counts:
    """Sum up a model whose variables have `size` entries, of which `nonzero` are not zero.

    `describe` gives each layer's output units and the output shape of its first call.
    """
    used, exact = uses(model)
    rows = []
    for layer in model.layers:
        units, shape = describe(layer)
        rows.append(
            LayerCounts(
                name=layer.name,
                class_name=type(layer).__name__,
                parameters=sum(size(v) for v in layer.weights),
                nonzero_parameters=sum(nonzero(v) for v in layer.weights),
                macs=sum(use.positions * size(use.variable) for use in used.get(layer.name, ())),
                units=units,
                output_shape=shape,
            )
        )
    unique = list(graph.variable_keys(model).values())
    return Counts(
        parameters=sum(size(v) for v in unique),
        nonzero_parameters=sum(nonzero(v) for v in unique),
        macs=sum(row.macs for row in rows),
        macs_exact=exact,
        layers=tuple(rows),
    )


def count_nonzero(variable: Any) -> int:
    """Number of entries that are not zero."""
    return int(np.count_nonzero(graph.values(variable)))


def first_outputs(model: Any) -> dict[str, Any]:
    """The first output tensor of each layer's first call, by layer name."""
    return dict(_first_outputs(model))


def _first_outputs(model: Any) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for node in graph.calls(model):
        if node.operation.name not in seen:
            seen.add(node.operation.name)
            yield node.operation.name, node.output_tensors[0]


def count(model: Any) -> Counts:
    """Count a built Sequential or Functional model.

    Raises:
        EngineRefusal: the model has no graph that can be read.
    """
    graph.ensure_supported(model)
    outputs = first_outputs(model)

    def describe(layer: Any) -> tuple[int | None, Shape | None]:
        tensor = outputs.get(layer.name)
        return graph.output_units(layer), None if tensor is None else tuple(tensor.shape)

    return tally(model, graph.size_of, count_nonzero, describe)
