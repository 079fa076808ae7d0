"""Units that may go without a trace: nobody reads them, or they hold one value for ever."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.prune import Prune
from workers.engine import graph
from workers.engine.analysis import Analysis, Kept
from workers.engine.constants import Constants, look_up
from workers.engine.ids import NOBODY, Axis
from workers.engine.masks import Mask
from workers.engine.overrides import wish

layers = keras.layers

PLAIN_MAKERS: frozenset[type] = frozenset(
    {
        layers.Dense,
        layers.EinsumDense,
        layers.Conv1D,
        layers.Conv2D,
        layers.Conv3D,
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
        layers.SeparableConv1D,
        layers.SeparableConv2D,
        layers.Embedding,
    }
)
"""Makers whose unit is the bias, or 0, once its column is zero; a recurrent one has a state."""

Place = tuple[Any, int, Axis]
"""A variable, the number of one of its axes, and that axis."""


@dataclass(frozen=True)
class Dead:
    """Which units may go, by name."""

    keep: Mask
    constant: Mask
    """Of those that go, the ones whose value is added to the biases of their readers."""
    constants: Constants | None


def find_dead(analysis: Analysis, prune: Prune | None, seed: int) -> Dead:
    """Dead units, those that are dead once others are gone, and so on.

    A unit is *unread* when every weight that reads it is zero. It is *constant* when all columns
    of its makers are zero and its value can be added to the biases of its readers, or is 0. What
    other calls look at (normalisations over channels, scores of attention) is neither, and one
    unit of each maker stays.

    Args:
        analysis: the model, whose weights hold zeros.
        prune: units of layers that it skips stay.
        seed: of the probes that constants are looked up with.
    """
    removable = _removable(analysis, prune)
    readers, columns = list(_readers(analysis)), list(_columns(analysis))
    has_reader = _named(analysis, (axis for _, _, axis in readers))
    plain = removable & ~_made_otherwise(analysis)
    keep, constant = analysis.keep_all(), np.zeros(removable.size, dtype=np.bool_)
    constants: Constants | None = None
    while True:
        kept = analysis.kept(keep)
        unread = removable & keep & has_reader & ~_weighty(analysis, readers, kept)
        still = plain & keep & ~unread & ~_weighty(analysis, columns, kept)
        if still.any():
            constants = constants or look_up(analysis, plain, seed)
            still &= constants.holds
        going = _but_one(analysis, keep, unread | still)
        if not going.any():
            return Dead(keep, constant, constants)
        keep &= ~going
        constant |= going & still


def _removable(analysis: Analysis, prune: Prune | None) -> Mask:
    found = np.zeros(len(analysis.walk.names), dtype=np.bool_)
    for group in analysis.groups:
        if prune is None or not any(wish(n, prune).skip for n in analysis.members(group)):
            found[group.units] = True
    return found & ~_named(analysis, _looked_at(analysis))


def _named(analysis: Analysis, axes: Iterable[Axis]) -> Mask:
    """The units along any of these axes, by root."""
    found = np.zeros(len(analysis.walk.names), dtype=np.bool_)
    for axis in axes:
        for line in axis.lines:
            found[analysis.root_of[line]] = True
    found[NOBODY] = False
    return found


def _looked_at(analysis: Analysis) -> Iterator[Axis]:
    """Axes of what calls look at as a whole, without weights of their own for it."""
    for node in _calls(analysis.model):
        whole = id(node) in analysis.walk.references
        if whole or isinstance(node.operation, layers.Masking):
            for tensor in node.input_tensors:
                yield from analysis.walk.tensors.get(id(tensor), ())


def _calls(layer: Any) -> Iterator[Any]:
    """All calls within a model, and within the models and wrappers in it."""
    if graph.is_graph(layer):
        for node in graph.calls(layer):
            yield node
            yield from _calls(node.operation)
    else:
        for _, child in graph.children(layer):
            yield from _calls(child)


def _made_otherwise(analysis: Analysis) -> Mask:
    makers = analysis.walk.makers.values()
    return _named(analysis, (m.axis for m in makers if type(m.layer) not in PLAIN_MAKERS))


def _readers(analysis: Analysis) -> Iterator[Place]:
    for binding in analysis.walk.bindings.values():
        if binding.reads and binding.axis.named:
            yield binding.variable, binding.number, binding.axis


def _columns(analysis: Analysis) -> Iterator[Place]:
    for maker in analysis.walk.makers.values():
        for slot in maker.slots:
            yield slot.kernel, slot.number, slot.axis


def _weighty(analysis: Analysis, places: Iterable[Place], kept: Kept) -> Mask:
    """Units that have a weight other than zero at one of these places, among what is kept."""
    found = np.zeros(len(analysis.walk.names), dtype=np.bool_)
    for variable, number, axis in places:
        entries: list[NDArray[Any]] = list(analysis.kept_entries(variable, kept))
        entries[number] = np.arange(int(variable.shape[number]))
        nonzero = (graph.values(variable) != 0)[np.ix_(*entries)]
        others = tuple(other for other in range(nonzero.ndim) if other != number)
        some = nonzero.any(axis=others)
        for line in axis.lines:
            found[analysis.root_of[line[some]]] = True
    return found


def _but_one(analysis: Analysis, keep: Mask, going: Mask) -> Mask:
    """What may go so that each maker keeps a unit: the first of those that would be its last."""
    going = going.copy()
    for maker in analysis.walk.makers.values():
        for line in maker.axis.lines:
            roots = np.unique(analysis.root_of[line])
            left = roots[keep[roots]]
            if going[left].all():
                going[left[:1]] = False
    return going
