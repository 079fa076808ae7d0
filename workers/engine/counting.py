"""Parameters and multiply-accumulates (MACs) per sample, by layer.

MACs are those of kernels (every entry is used once per output position) and of the products of
attention, as is usual; biases, normalisation and activations are not counted.
"""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from workers.engine import graph
from workers.engine.channels import Shape, Walk, Work
from workers.engine.ids import Axis


@dataclass(frozen=True)
class LayerCounts:
    """One layer's figures."""

    name: str
    """Its path: layers of nested models behind the model's name and a slash."""
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


class Remaining(Protocol):
    """How many indices of an axis remain."""

    def count(self, axis: Axis) -> int | None:
        """None where the size is not known."""


Size = Callable[[Any], int]


def macs_of(work: Work, kept: Remaining) -> int:
    """Multiply-accumulates of one call that remain."""
    return work.constant * math.prod(kept.count(axis) or 0 for axis in work.axes)


def kept_size(walk: Walk, variable: Any, kept: Remaining) -> int:
    """Number of entries of a variable that remain."""
    shape = [int(size) for size in variable.shape]
    for number in range(len(shape)):
        binding = walk.bindings.get((id(variable), number))
        if binding is not None and binding.axis.named:
            shape[number] = kept.count(binding.axis) or 0
    return math.prod(shape)


def tally(model: Any, walk: Walk, kept: Remaining, nonzero: Size | None = None) -> Counts:
    """Sum up what remains of a model.

    Args:
        model: the walked model.
        walk: its walk.
        kept: how much of each axis remains.
        nonzero: how many of a variable's entries are not zero; counted where left out.
    """
    nonzero = nonzero or count_nonzero
    leaves = list(graph.leaves(model))
    keys = {key for key, _ in leaves}
    macs: dict[str, int] = {}
    for work in walk.works:
        owner = _owner(work.layer, keys)
        macs[owner] = macs.get(owner, 0) + macs_of(work, kept)
    first = first_outputs(model)
    rows = []
    for key, layer in leaves:
        rows.append(
            LayerCounts(
                name=key,
                class_name=type(layer).__name__,
                parameters=sum(kept_size(walk, v, kept) for v in layer.weights),
                nonzero_parameters=sum(nonzero(v) for v in layer.weights),
                macs=macs.pop(key, 0),
                units=_units(walk, layer, kept),
                output_shape=_shape(walk, first.get(key), kept),
            )
        )
    for name, left in macs.items():
        kind, tensor = first.get(f"{name}()", ("Operation", None))
        rows.append(LayerCounts(name, kind, 0, 0, left, None, _shape(walk, tensor, kept)))
    unique = list(graph.variable_keys(model).values())
    return Counts(
        parameters=sum(kept_size(walk, v, kept) for v in unique),
        nonzero_parameters=sum(nonzero(v) for v in unique),
        macs=sum(row.macs for row in rows),
        macs_exact=all(work.exact for work in walk.works),
        layers=tuple(rows),
    )


def _owner(name: str, keys: Container[str]) -> str:
    """The layer that a part of it belongs to; operations are their own."""
    owner = name
    while owner not in keys:
        owner, slash, _ = owner.rpartition("/")
        if not slash:
            return name
    return owner


def _units(walk: Walk, layer: Any, kept: Remaining) -> int | None:
    for setting in graph.UNIT_SETTINGS:
        edit = walk.edits.get((id(layer), setting))
        if edit is not None:
            return kept.count(edit.axes[0])
    return graph.output_units(layer)


def _shape(walk: Walk, tensor: Any, kept: Remaining) -> Shape | None:
    if tensor is None:
        return None
    axes = walk.tensors.get(id(tensor))
    if axes is None:
        return tuple(tensor.shape)
    return tuple(kept.count(axis) for axis in axes)


def count_nonzero(variable: Any) -> int:
    """Number of entries that are not zero."""
    return int(np.count_nonzero(graph.values(variable)))


def first_outputs(model: Any, prefix: str = "") -> dict[str, Any]:
    """The first output tensor of each layer's first call, by path.

    Operations that are no layers are found under `path()`, with their class name.
    """
    found: dict[str, Any] = {}
    for node in graph.calls(model):
        key = f"{prefix}{node.operation.name}"
        if graph.is_graph(node.operation):
            for name, tensor in first_outputs(node.operation, f"{key}/").items():
                found.setdefault(name, tensor)
        else:
            found.setdefault(key, node.output_tensors[0])
            kind = type(node.operation).__name__
            found.setdefault(f"{key}()", (kind, node.output_tensors[0]))
    return found
