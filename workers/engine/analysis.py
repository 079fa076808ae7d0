"""What can be removed from a model: its units, which belong together, and why others stay."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.channels import Binding, Maker, Walk, walk_graph
from workers.engine.counting import Counts, tally
from workers.engine.ids import NOBODY, Axis, Ids
from workers.engine.parts import settle
from workers.engine.rules import RULES

DENSE = (keras.layers.Dense, keras.layers.EinsumDense)


@dataclass(frozen=True)
class Group:
    """Units that are made by the same layers, so that each of them costs each layer the same.

    `columns` says how many columns one unit owns of each maker; `units` are their roots,
    ascending, which is the model's order.
    """

    columns: Mapping[str, int]
    lines: Mapping[str, int]
    """Which of each maker's lines names them."""
    units: Ids
    dense_only: bool
    heads: bool
    """Whether they are attention heads."""

    @property
    def key(self) -> str:
        """A name that survives removals: the makers, their lines and columns per unit."""
        return "|".join(
            f"{name}*{columns}" + (f"#{self.lines[name]}" if self.lines[name] else "")
            for name, columns in self.columns.items()
        )


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
    heads: int | None = None
    """Attention heads that may be removed, None where it has none."""


class Kept:
    """What stays of axes when only units with `keep[root]` stay."""

    def __init__(self, root_of: Ids, keep: NDArray[np.bool_]) -> None:
        self._by_name = keep[root_of]
        self._by_name[NOBODY] = True

    def __call__(self, axis: Axis) -> NDArray[np.bool_]:
        """For each index of an axis whether it stays, (size,)."""
        stays = np.ones(axis.size or 0, dtype=np.bool_)
        for line in axis.lines:
            stays &= self._by_name[line]
        return stays

    def count(self, axis: Axis) -> int | None:
        """How many indices stay; None where the size is not known."""
        if not axis.lines:
            return axis.size
        if len(axis.lines) == 1:
            return int(np.count_nonzero(self._by_name[axis.lines[0]]))
        return int(np.count_nonzero(self(axis)))


@dataclass(frozen=True)
class Analysis:
    """A walked model."""

    model: Any
    walk: Walk

    @cached_property
    def root_of(self) -> Ids:
        """The unit that each name belongs to, (names,)."""
        return self.walk.names.find(np.arange(len(self.walk.names)))

    @cached_property
    def reasons(self) -> Mapping[int, str]:
        """Why a root is frozen; the first reason given."""
        found: dict[int, str] = {}
        for ids, reason in self.walk.frozen:
            for root in np.unique(self.root_of[ids]).tolist():
                found.setdefault(root, reason)
        return found

    @cached_property
    def heads(self) -> frozenset[int]:
        """The units that are attention heads."""
        lines = [self.root_of[line] for line in self.walk.heads]
        return frozenset(np.unique(np.concatenate(lines)).tolist() if lines else ())

    def kept(self, keep: NDArray[np.bool_]) -> Kept:
        """What stays of axes when only units with `keep[root]` stay."""
        return Kept(self.root_of, keep)

    def keep_all(self) -> NDArray[np.bool_]:
        """One entry per name, True: nothing removed."""
        return np.ones(len(self.walk.names), dtype=np.bool_)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All units that may be removed, by the makers that make them, in model order."""
        made: dict[int, dict[str, tuple[int, int]]] = {}
        for name, maker in self.walk.makers.items():
            for number, line in enumerate(maker.axis.lines):
                roots, columns = np.unique(self.root_of[line], return_counts=True)
                for root, count in zip(roots.tolist(), columns.tolist(), strict=True):
                    if root not in self.reasons and root != NOBODY:
                        made.setdefault(root, {})[name] = (count, number)
        sorted_into: dict[tuple[Any, ...], list[int]] = {}
        for root in sorted(made):
            signature = (root in self.heads, *made[root].items())
            sorted_into.setdefault(signature, []).append(root)
        return tuple(self._group(made[units[0]], units) for units in sorted_into.values())

    def _group(self, made: Mapping[str, tuple[int, int]], units: list[int]) -> Group:
        return Group(
            columns={name: columns for name, (columns, _) in made.items()},
            lines={name: number for name, (_, number) in made.items()},
            units=np.array(units, dtype=np.int64),
            dense_only=all(isinstance(self.walk.makers[name].layer, DENSE) for name in made),
            heads=units[0] in self.heads,
        )

    @cached_property
    def channel_groups(self) -> tuple[Group, ...]:
        """The groups that channels are removed from: no heads, and of each grid its finest line.

        An axis that is a grid of two kinds of units (groups times channels of a shuffle) would
        otherwise lose its share twice.
        """
        best: dict[str, tuple[int, int]] = {}
        for group in self.groups:
            if group.heads:
                continue
            for name, line in group.lines.items():
                if group.units.size > best.get(name, (0, 0))[0]:
                    best[name] = (group.units.size, line)
        return tuple(
            group
            for group in self.groups
            if not group.heads and all(best[name][1] == line for name, line in group.lines.items())
        )

    @cached_property
    def counts(self) -> Counts:
        """The model as it is."""
        return tally(self.model, self.walk, self.kept(self.keep_all()))

    @cached_property
    def sizes(self) -> Counts:
        """The same by shapes alone, without a look at values: every parameter is nonzero."""
        return tally(self.model, self.walk, self.kept(self.keep_all()), graph.size_of)

    @cached_property
    def layers(self) -> tuple[LayerAnalysis, ...]:
        """One entry per layer, in the model's order."""
        return tuple(self._layer(counted.name) for counted in self.sizes.layers)

    def _layer(self, key: str) -> LayerAnalysis:
        counted = self.sizes.by_name[key]
        mine = self.makers_of(key)
        groups = [g for g in self.channel_groups if any(name in g.columns for name in mine)]
        heads = [g for g in self.groups if g.heads and any(name in g.columns for name in mine)]
        coupled = {other for group in groups for other in group.columns} - set(mine)
        return LayerAnalysis(
            name=key,
            class_name=counted.class_name,
            units=counted.units,
            prunable=sum(
                group.columns[name] * group.units.size
                for group in groups
                if group.units.size > 1
                for name in mine
                if name in group.columns
            ),
            coupled_with=tuple(
                dict.fromkeys(m.key for n, m in self.walk.makers.items() if n in coupled)
            ),
            frozen=self.reason(key),
            macs=counted.macs,
            parameters=counted.parameters,
            heads=sum(g.units.size for g in heads) if heads else None,
        )

    def makers_of(self, key: str) -> Mapping[str, Maker]:
        """The makers that are a layer, or parts of it, by name."""
        return self._makers_by_path.get(key, {})

    @cached_property
    def _makers_by_path(self) -> Mapping[str, Mapping[str, Maker]]:
        """Each maker under its own path, and under those of all that it is a part of."""
        found: dict[str, dict[str, Maker]] = {}
        for name, maker in self.walk.makers.items():
            path = maker.key
            while path:
                found.setdefault(path, {})[name] = maker
                path = path.rpartition("/")[0]
        return found

    def reason(self, key: str) -> str | None:
        """Why units of a layer stay, or None."""
        if key in self.walk.opaque:
            return self.walk.opaque[key]
        axes = [maker.axis for maker in self.makers_of(key).values()]
        lines = [self.root_of[line] for axis in axes for line in axis.lines]
        if not lines:
            return None
        for line in lines:
            for root in np.unique(line).tolist():
                if root in self.reasons:
                    return self.reasons[root]
        if all(np.unique(line).size == 1 for line in lines):
            return "all its units belong together, and one has to stay"
        return None

    @cached_property
    def bound(self) -> Mapping[int, tuple[Binding, ...]]:
        """By variable (its `id`): the axes named by ids."""
        found: dict[int, list[Binding]] = {}
        for (variable, _), binding in self.walk.bindings.items():
            if binding.axis.named:
                found.setdefault(variable, []).append(binding)
        return {variable: tuple(bindings) for variable, bindings in found.items()}

    def members(self, group: Group) -> tuple[str, ...]:
        """Every layer that holds weights of a group's units, makers first."""
        return self._members[group.key]

    @cached_property
    def _members(self) -> Mapping[str, tuple[str, ...]]:
        group_of = np.full(len(self.walk.names), -1, dtype=np.int64)
        for index, group in enumerate(self.groups):
            group_of[group.units] = index
        makers = self.walk.makers
        found = [dict.fromkeys(makers[name].key for name in group.columns) for group in self.groups]
        for binding in self.walk.bindings.values():
            if not binding.reads:
                for line in binding.axis.lines:
                    for index in np.unique(group_of[self.root_of[line]]).tolist():
                        if index >= 0:
                            found[index][binding.layer] = None
        return {group.key: tuple(names) for group, names in zip(self.groups, found, strict=True)}

    def kept_entries(self, variable: Any, kept: Kept) -> tuple[NDArray[Any], ...]:
        """Indices, one array per axis, that remain of a variable (for `numpy.ix_`)."""
        axes = [np.arange(int(size)) for size in variable.shape]
        for binding in self.bound.get(id(variable), ()):
            axes[binding.number] = np.flatnonzero(kept(binding.axis))
        return tuple(axes)


def analyse(model: Any) -> Analysis:
    """Walk a built Sequential or Functional model.

    Raises:
        EngineRefusal: the model has no graph that can be read, and why.
    """
    graph.ensure_supported(model)
    walk = walk_graph(model, RULES)
    settle(walk)
    return Analysis(model, walk)
