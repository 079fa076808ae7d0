"""What may lose units: groups of coupled units, how much each unit matters, and every limit."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.prune import FractionTarget, HeadGranularity, Prune, UnitGranularity
from workers.engine import graph
from workers.engine.analysis import Analysis, Group
from workers.engine.channels import Slot
from workers.engine.criteria import UNIT_CRITERIA, Seen, as_columns
from workers.engine.cut import Progress
from workers.engine.evidence import Evidence, scales
from workers.engine.masks import limited, most, removal_count
from workers.engine.overrides import Wish, common_wish
from workers.engine.saliency import Reduction, normalise, reduce_members
from workers.engine.weights import seeded

LANES = ((32, 8), (16, 4))
"""From how many units on a layer keeps a multiple of how many, unless the spec says otherwise.

Kernels of CPU runtimes work on 8 or 16 channels at a time: 9 cost as much as 16.
"""


@dataclass(frozen=True)
class Candidate:
    """A group of coupled units that may lose some; `original` is its count before step one."""

    group: Group
    wish: Wish
    original: int
    prune: Prune
    saliency: NDArray[Any]
    kind: Hashable = None
    """What groups of like structure have in common."""
    lanes: bool = True
    """Whether a multiple is kept that the spec did not ask for."""

    @property
    def size(self) -> int:
        """Units that are there now."""
        return self.group.units.size

    @property
    def at_least(self) -> int:
        """Units that stay whatever is asked."""
        limit = self.wish.max_remove
        capped = 0 if limit is None else self.original - most(limit, self.original)
        return min(self.size, max(self.prune.min_units, capped))

    @property
    def multiple(self) -> int | None:
        """What is kept is a multiple of this, where there is one."""
        exact = isinstance(self.prune.target, FractionTarget) and self.prune.scope != "latency"
        if self.prune.round_to is not None or exact:
            return self.prune.round_to
        if self.group.heads or not self.lanes:
            return None
        return next((lanes for least, lanes in LANES if self.original >= least), None)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Indices of the units, the one to go first in front."""
        return np.argsort(self.saliency, kind="stable")

    @cached_property
    def relative(self) -> NDArray[Any]:
        """The saliencies made comparable with those of other groups, (units,)."""
        return normalise(self.saliency, self.prune.normalisation)

    def asked(self, share: float, step: float) -> int:
        """How many more the share alone asks for, or the group's own share at this step."""
        own = self.wish.remove
        gone = removal_count(share if own is None else step * own, self.original)
        return max(0, gone - (self.original - self.size))

    def limited(self, removed: int) -> int:
        """How many more go when `removed` would, under every limit."""
        kept = limited(self.size - removed, self.size, self.at_least, self.multiple)
        return self.size - kept


BY_ACTIVITY = ("apoz", "activation")


def candidates(
    analysis: Analysis,
    prune: Prune,
    seed: int,
    progress: Progress,
    evidence: Evidence | None = None,
) -> list[Candidate]:
    """The groups that may lose units under a spec, in model order.

    Raises:
        EngineRefusal: the criterion needs evidence that is missing.
    """
    ranking = Ranking(analysis, prune.criterion.kind, seed, evidence)
    kinds = _kinds(analysis) if prune.scope == "isomorphic" else {}
    found = []
    for group in eligible(analysis, prune):
        wished = wished_of(analysis, group, prune)
        original = progress.units.get(group.key, group.units.size)
        if not wished.skip and original >= 2:
            saliency = ranking.saliency(group, prune.reduction)
            kind = kinds.get(group.key)
            found.append(Candidate(group, wished, original, prune, saliency, kind))
    return found


def eligible(analysis: Analysis, prune: Prune) -> list[Group]:
    """The groups that a granularity counts."""
    match prune.granularity:
        case HeadGranularity():
            return [group for group in analysis.groups if group.heads]
        case UnitGranularity():
            return [group for group in analysis.channel_groups if group.dense_only]
        case _:
            return list(analysis.channel_groups)


def wished_of(analysis: Analysis, group: Group, prune: Prune) -> Wish:
    """What the spec's overrides say of a group's makers and of what its units pass through."""
    names = list(analysis.members(group))
    keys = {analysis.walk.makers[name].key for name in group.columns}
    makers = {maker.key for maker in analysis.walk.makers.values()}
    telling = {name for name in names if name in keys or name not in makers}
    return common_wish(names, telling, prune)


def _kinds(analysis: Analysis) -> dict[str, Hashable]:
    """What surrounds each group: the classes of layers and variables that its units touch.

    Groups of one kind are isomorphic: like parts of like blocks. [Fang et al. 2024,
    arXiv:2407.04616]
    """
    index = {}
    for number, group in enumerate(analysis.groups):
        index.update(dict.fromkeys(group.units.tolist(), number))
    touched: list[dict[Hashable, None]] = [{} for _ in analysis.groups]
    classes = {key: type(layer).__name__ for key, layer in graph.leaves(analysis.model)}
    for binding in analysis.walk.bindings.values():
        what = (classes.get(binding.layer), binding.variable.name, binding.number, binding.reads)
        for line in binding.axis.lines:
            for root in np.unique(analysis.root_of[line]).tolist():
                if root in index:
                    touched[index[root]][what] = None
    return {
        group.key: frozenset(what) for group, what in zip(analysis.groups, touched, strict=True)
    }


class Ranking:
    """The criterion's view of every kernel, each looked at once."""

    def __init__(
        self, analysis: Analysis, criterion: str, seed: int, evidence: Evidence | None
    ) -> None:
        self._analysis = analysis
        self._criterion = criterion
        self._seed = seed
        self._evidence = evidence or Evidence()
        self._scales = scales(analysis.model) if criterion == "batch_norm_scale" else {}
        self._keys = {id(v): key for key, v in graph.variable_keys(analysis.model).items()}
        self._known: dict[tuple[int, int], NDArray[Any]] = {}

    def saliency(self, group: Group, how: Reduction) -> NDArray[Any]:
        """Of each unit, over all columns that it owns, (units,)."""
        members = []
        for name in group.columns:
            for slot in self._analysis.walk.makers[name].slots:
                for line in slot.axis.lines:
                    roots = self._analysis.root_of[line]
                    mine = np.isin(roots, group.units)
                    if mine.any():
                        places = np.searchsorted(group.units, roots)
                        members.append((self._columns(name, slot), np.where(mine, places, -1)))
        return reduce_members(members, group.units.size, how)

    def _columns(self, name: str, slot: Slot) -> NDArray[Any]:
        key = (id(slot.kernel), slot.number)
        if key not in self._known:
            kernel = graph.values(slot.kernel).astype(np.float32, copy=False)
            seen = self._seen(slot, kernel.shape, self._analysis.walk.makers[name].key)
            rank = UNIT_CRITERIA[self._criterion]
            if self._criterion in BY_ACTIVITY and seen.activity is None:
                # Nothing tells the activations of units inside a layer: their norm must do.
                rank = UNIT_CRITERIA["l2"]
            columns = as_columns(kernel, slot.number)
            self._known[key] = rank(columns, seeded(self._seed, name), seen)
        return self._known[key]

    def _seen(self, slot: Slot, shape: tuple[int, ...], layer: str) -> Seen:
        columns = shape[slot.number]
        return replace(
            self._evidence.of(self._keys[id(slot.kernel)], shape),
            activity=_per_column(self._evidence.activity.get(layer), columns),
            zeros=_per_column(self._evidence.zeros.get(layer), columns),
            scale=_per_column(self._scales.get(layer), columns),
        ).along(slot.number)


def _per_column(values: NDArray[Any] | None, columns: int) -> NDArray[Any] | None:
    """What is known of a layer's outputs, for the columns of a kernel; gates repeat the units."""
    if values is None or columns % values.size:
        return None
    return np.tile(values, columns // values.size)
