"""What can be removed from a model: its units, which belong together, and why others stay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.channels import Walk, walk_graph
from workers.engine.counting import Counts, count
from workers.engine.ids import Ids, compact, varying_axes
from workers.engine.rules import RULES


@dataclass(frozen=True)
class Group:
    """Units that are made by the same layers, so that each of them costs each layer the same.

    `columns` says how many columns of each layer's kernel one unit owns; `units` are their roots,
    ascending, which is the model's order.
    """

    columns: Mapping[str, int]
    units: Ids
    dense_only: bool

    @property
    def key(self) -> str:
        """A name that survives removals: the layers and their columns per unit."""
        return "|".join(f"{name}*{columns}" for name, columns in self.columns.items())


@dataclass(frozen=True)
class LayerAnalysis:
    """What can be removed from one layer. Units are counted as columns of its kernel."""

    name: str
    class_name: str
    units: int | None
    """Output units, None where the layer has no such notion."""
    prunable: int
    """Units that may be removed, as long as each of its groups keeps one."""
    coupled_with: tuple[str, ...]
    """Layers that lose a unit whenever this one does."""
    frozen: str | None
    """Why (some of) its units, or those it reads, stay."""
    macs: int
    parameters: int


@dataclass(frozen=True)
class Analysis:
    """A walked model."""

    model: Any
    walk: Walk

    @cached_property
    def reasons(self) -> Mapping[int, str]:
        """Why a root is frozen; the first reason given."""
        found: dict[int, str] = {}
        for ids, reason in self.walk.frozen:
            for root in np.unique(self.roots(ids)).tolist():
                found.setdefault(root, reason)
        return found

    def roots(self, ids: Ids) -> Ids:
        """The unit each id belongs to."""
        return self.walk.names.find(ids)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All units that may be removed, by the layers that make them, in model order."""
        made: dict[int, dict[str, int]] = {}
        for name, maker in self.walk.makers.items():
            roots, columns = np.unique(self.roots(maker.ids), return_counts=True)
            for root, number in zip(roots.tolist(), columns.tolist(), strict=True):
                if root not in self.reasons:
                    made.setdefault(root, {})[name] = number
        sorted_into: dict[tuple[tuple[str, int], ...], list[int]] = {}
        for root in sorted(made):
            sorted_into.setdefault(tuple(made[root].items()), []).append(root)
        return tuple(
            Group(
                columns=dict(signature),
                units=np.array(units, dtype=np.int64),
                dense_only=all(
                    isinstance(self.walk.makers[name].layer, keras.layers.Dense)
                    for name, _ in signature
                ),
            )
            for signature, units in sorted_into.items()
        )

    @cached_property
    def counts(self) -> Counts:
        """The model as it is."""
        return count(self.model)

    @cached_property
    def layers(self) -> tuple[LayerAnalysis, ...]:
        """One entry per layer, in the model's order."""
        return tuple(self._layer(counted.name) for counted in self.counts.layers)

    def _layer(self, name: str) -> LayerAnalysis:
        counted = self.counts.by_name[name]
        groups = [group for group in self.groups if name in group.columns]
        free = [group for group in groups if group.units.size > 1]
        coupled = {other for group in groups for other in group.columns} - {name}
        return LayerAnalysis(
            name=name,
            class_name=counted.class_name,
            units=counted.units,
            prunable=sum(group.columns[name] * group.units.size for group in free),
            coupled_with=tuple(other for other in self.walk.makers if other in coupled),
            frozen=self.reason(name),
            macs=counted.macs,
            parameters=counted.parameters,
        )

    def reason(self, name: str) -> str | None:
        """Why units of a layer stay, or None."""
        if name in self.walk.opaque:
            return self.walk.opaque[name]
        maker = self.walk.makers.get(name)
        if maker is None:
            return None
        roots = np.unique(self.roots(maker.ids)).tolist()
        frozen = [self.reasons[root] for root in roots if root in self.reasons]
        if frozen:
            return frozen[0]
        if len(roots) == 1:
            return "all its units belong together, and one has to stay"
        return None

    def keep_all(self) -> NDArray[np.bool_]:
        """One entry per id, True: nothing removed."""
        return np.ones(len(self.walk.names), dtype=np.bool_)

    def shape_left(self, ids: Ids, keep: NDArray[np.bool_]) -> tuple[int, ...]:
        """Shape of what remains of a tensor when only units with `keep[root]` stay."""
        shape = list(ids.shape)
        roots = self.roots(ids)
        small = compact(roots)
        axes = [a for a in varying_axes(roots) if not bool((small == small.take([0], a)).all())]
        if axes:
            shape[axes[-1]] = int(keep[_line(small, axes[-1])].sum())
        return tuple(shape)

    @cached_property
    def bound(self) -> Mapping[int, tuple[tuple[int, Ids], ...]]:
        """By variable (its `id`): the axes named by ids, with the unit of each index."""
        found: dict[int, list[tuple[int, Ids]]] = {}
        for (variable, axis), binding in self.walk.bindings.items():
            found.setdefault(variable, []).append((axis, self.roots(binding.ids)))
        return {variable: tuple(axes) for variable, axes in found.items()}

    @cached_property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """For each group: every layer that holds weights of its units, makers first."""
        group_of = np.full(len(self.walk.names), -1, dtype=np.int64)
        for index, group in enumerate(self.groups):
            group_of[group.units] = index
        found = [dict.fromkeys(group.columns) for group in self.groups]
        for binding in self.walk.bindings.values():
            if not binding.reads:
                for index in np.unique(group_of[self.roots(binding.ids)]).tolist():
                    if index >= 0:
                        found[index][binding.layer] = 0
        return tuple(tuple(names) for names in found)

    def kept_entries(self, variable: Any, keep: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
        """Indices, one array per axis, that remain of a variable (for `numpy.ix_`)."""
        axes = [np.arange(int(size)) for size in variable.shape]
        for axis, roots in self.bound.get(id(variable), ()):
            axes[axis] = np.flatnonzero(keep[roots])
        return tuple(axes)

    def kept_size(self, variable: Any, keep: NDArray[np.bool_]) -> int:
        """Number of entries that remain of a variable."""
        shape = [int(size) for size in variable.shape]
        for axis, roots in self.bound.get(id(variable), ()):
            shape[axis] = int(np.count_nonzero(keep[roots]))
        return math.prod(shape)


def _line(small: Ids, axis: int) -> Ids:
    index = tuple(slice(None) if a == axis else 0 for a in range(small.ndim))
    line: Ids = small[index]
    return line


def analyse(model: Any) -> Analysis:
    """Walk a built Sequential or Functional model.

    Raises:
        EngineRefusal: the model has no graph that can be read, and why.
    """
    graph.ensure_supported(model)
    return Analysis(model, walk_graph(model, RULES))
