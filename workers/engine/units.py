"""Choosing units: columns of kernels, with everything that is coupled to them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.spec import (
    FractionTarget,
    HeadGranularity,
    MacsTarget,
    Prune,
    UnitGranularity,
)
from workers.engine import graph
from workers.engine.analysis import Analysis, Group, LayerAnalysis, belongs
from workers.engine.criteria import UNIT_CRITERIA
from workers.engine.cut import LayerCut, Progress, UnitCut
from workers.engine.masks import Mask, limited, most, removal_count, smallest
from workers.engine.overrides import Wish, common_wish, wish
from workers.engine.prediction import Sizes, removed_columns
from workers.engine.weights import least, seeded


@dataclass(frozen=True)
class Candidate:
    """A group of coupled units that may lose some; `original` is its count before step one."""

    group: Group
    wish: Wish
    original: int
    prune: Prune
    saliency: NDArray[Any]

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

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Indices of the units, the one to go first in front."""
        return np.argsort(self.saliency, kind="stable")

    def asked(self, share: float, step: float) -> int:
        """How many more the share alone asks for, or the group's own share at this step."""
        own = self.wish.remove
        gone = removal_count(share if own is None else step * own, self.original)
        return max(0, gone - (self.original - self.size))

    def limited(self, removed: int) -> int:
        """How many more go when `removed` would, under every limit."""
        kept = limited(self.size - removed, self.size, self.at_least, self.prune.round_to)
        return self.size - kept


Choice = dict[str, int]
"""How many units each group loses now, by the group's key."""


def choose_units(
    analysis: Analysis, prune: Prune, share: float, seed: int, progress: Progress
) -> UnitCut:
    """Choose the units to remove so that `share` of the target is reached.

    Raises:
        EngineRefusal: nothing can be removed, or the target cannot be reached.
    """
    candidates = _candidates(analysis, prune, seed, progress)
    fraction = _fraction(analysis, candidates, prune, share, progress)
    choice = _choice(candidates, prune, fraction, share)
    keep = _keep(analysis, candidates, choice)
    summary = _summary(analysis, candidates, prune, choice, fraction, share)
    return UnitCut(removed_columns(analysis, keep), summary, progress)


def _candidates(analysis: Analysis, prune: Prune, seed: int, progress: Progress) -> list[Candidate]:
    norms: dict[tuple[int, int], NDArray[Any]] = {}
    found = []
    for group in _eligible(analysis, prune):
        wished = _wished(analysis, group, prune)
        original = progress.units.get(group.key, group.units.size)
        if wished.skip or original < 2:
            continue
        saliency = _saliency(analysis, group, prune.criterion.kind, seed, norms)
        found.append(Candidate(group, wished, original, prune, saliency))
    if not found:
        kind = KINDS[prune.granularity.kind]
        raise _refusal(
            f"No {kind} of model '{analysis.model.name}' can be removed.", analysis, prune
        )
    return found


def _eligible(analysis: Analysis, prune: Prune) -> list[Group]:
    """The groups that a granularity counts."""
    match prune.granularity:
        case HeadGranularity():
            return [group for group in analysis.groups if group.heads]
        case UnitGranularity():
            return [group for group in analysis.channel_groups if group.dense_only]
        case _:
            return list(analysis.channel_groups)


def _wished(analysis: Analysis, group: Group, prune: Prune) -> Wish:
    names = list(analysis.members(group))
    keys = {analysis.walk.makers[name].key for name in group.columns}
    makers = {maker.key for maker in analysis.walk.makers.values()}
    telling = {name for name in names if name in keys or name not in makers}
    return common_wish(names, telling, prune)


def _saliency(
    analysis: Analysis,
    group: Group,
    criterion: str,
    seed: int,
    norms: dict[tuple[int, int], NDArray[Any]],
) -> NDArray[Any]:
    """Mean of the criterion over all columns that one unit owns, (units,)."""
    total, count = np.zeros(group.units.size), np.zeros(group.units.size)
    for name in group.columns:
        for slot in analysis.walk.makers[name].slots:
            key = (id(slot.kernel), slot.number)
            if key not in norms:
                kernel = graph.values(slot.kernel).astype(np.float32)
                columns = np.moveaxis(kernel, slot.number, -1)
                columns = columns.reshape(-1, columns.shape[-1])
                norms[key] = UNIT_CRITERIA[criterion](columns, seeded(seed, name))
            for line in slot.axis.lines:
                roots = analysis.root_of[line]
                mine = np.isin(roots, group.units)
                places = np.searchsorted(group.units, roots[mine])
                np.add.at(total, places, norms[key][mine])
                np.add.at(count, places, 1)
    mean: NDArray[Any] = total / np.maximum(count, 1)
    return mean


def _choice(candidates: list[Candidate], prune: Prune, fraction: float, step: float) -> Choice:
    if prune.scope == "layer":
        return {c.group.key: c.limited(c.asked(fraction, step)) for c in candidates}
    own = [c for c in candidates if c.wish.remove is not None]
    choice = {c.group.key: c.limited(c.asked(fraction, step)) for c in own}
    competing = [c for c in candidates if c.wish.remove is None]
    if competing:
        gone = sum(c.original - c.size for c in competing)
        count = removal_count(fraction, sum(c.original for c in competing)) - gone
        choice.update(_compete(competing, count))
    return choice


def _compete(candidates: list[Candidate], count: int) -> Choice:
    """The units with the smallest saliency, relative to their group's mean, go first."""
    saliency = []
    for candidate in candidates:
        relative = candidate.saliency / (candidate.saliency.mean() or 1.0)
        relative[candidate.order[candidate.size - candidate.at_least :]] = np.inf
        saliency.append(relative)
    free = sum(c.size - c.at_least for c in candidates)
    # Model order among equals: by root, whatever group it is in.
    units = np.concatenate([c.group.units for c in candidates])
    by_model = np.argsort(units, kind="stable")
    chosen = np.zeros(units.size, dtype=np.bool_)
    chosen[by_model] = smallest(np.concatenate(saliency)[by_model], max(0, min(count, free)))
    parts = np.split(chosen, np.cumsum([c.size for c in candidates])[:-1])
    return {
        c.group.key: c.limited(int(part.sum())) for c, part in zip(candidates, parts, strict=True)
    }


def _keep(analysis: Analysis, candidates: list[Candidate], choice: Choice) -> Mask:
    keep = analysis.keep_all()
    for candidate in candidates:
        keep[candidate.group.units[candidate.order[: choice[candidate.group.key]]]] = False
    return keep


def _fraction(
    analysis: Analysis, candidates: list[Candidate], prune: Prune, step: float, progress: Progress
) -> float:
    """The share of units to remove so that `step` of the way to the target is done."""
    target = prune.target
    assert target is not None
    if isinstance(target, FractionTarget):
        return step * target.remove
    sizes = Sizes(analysis)
    macs = isinstance(target, MacsTarget)
    what, measure = ("MACs", sizes.macs) if macs else ("parameters", sizes.parameters)
    whole = progress.macs if macs else progress.parameters
    limit = (1.0 - step * (1.0 - target.keep)) * whole

    def left(fraction: float) -> int:
        return measure(_keep(analysis, candidates, _choice(candidates, prune, fraction, step)))

    found = least(lambda fraction: left(fraction) <= limit)
    if found is None:
        raise _refusal(
            f"The target keeps at most {target.keep:.4g} of the {what}, but the smallest share "
            f"that can be reached is {left(1.0) / max(whole, 1):.4g}: every layer keeps "
            f"{prune.min_units} or more of its units, and some keep all.",
            analysis,
            prune,
        )
    return found


def _refusal(sentence: str, analysis: Analysis, prune: Prune) -> EngineRefusal:
    stays = [
        why if why.startswith(name) else f"{name}: {why}"
        for name, why in _stays(analysis, prune).items()
    ]
    more = [f"and {len(stays) - 12} more"] if len(stays) > 12 else []
    return EngineRefusal(
        " ".join([sentence, "; ".join(stays[:12] + more)]) + ".",
        errors=tuple(
            {"field": name, "detail": why} for name, why in _stays(analysis, prune).items()
        ),
    )


KINDS = {"unit": "units of Dense layers", "channel": "channels", "head": "attention heads"}


def _stays(analysis: Analysis, prune: Prune) -> dict[str, str]:
    """Why layers that have units keep all of them, by name."""
    found = dict(analysis.walk.opaque)
    for layer, _, _ in _rows(analysis):
        if (why := _why(analysis, prune, layer.name)) is not None:
            found[layer.name] = why
    return found


def _why(analysis: Analysis, prune: Prune, key: str) -> str | None:
    mine = {name for name, maker in analysis.walk.makers.items() if belongs(maker, key)}
    groups = [group for group in analysis.groups if mine & set(group.columns)]
    if not groups:
        return analysis.reason(key) or "its units are not understood"
    eligible = [group for group in _eligible(analysis, prune) if mine & set(group.columns)]
    for group in eligible:
        if _wished(analysis, group, prune).skip:
            return "skipped by the spec, itself or with a layer it is coupled with"
    if not eligible:
        return f"granularity {prune.granularity.kind} removes {KINDS[prune.granularity.kind]} only"
    return analysis.reason(key)


def _summary(
    analysis: Analysis,
    candidates: list[Candidate],
    prune: Prune,
    choice: Choice,
    fraction: float,
    step: float,
) -> tuple[LayerCut, ...]:
    rows = []
    for layer, units, names in _rows(analysis):
        mine = [
            (c, sum(c.group.columns.get(name, 0) for name in names))
            for c in candidates
            if names & set(c.group.columns)
        ]
        gone = sum(choice[c.group.key] * columns for c, columns in mine)
        asked, note = None, _why(analysis, prune, layer.name)
        if mine and all(_has_share(c, prune) for c, _ in mine):
            asked = sum(c.asked(fraction, step) * columns for c, columns in mine)
        if note is None:
            said = {_limit(c, prune, choice[c.group.key], fraction, step) for c, _ in mine}
            said |= {_coupling(c, prune, layer.name) for c, _ in mine}
            if asked == 0 and all(c.size == c.original for c, _ in mine):
                said.add(f"a share this small of {units} rounds to none")
            note = "; ".join(sorted(each for each in said if each is not None)) or None
        elif (own := wish(layer.name, prune).remove) is not None:
            note += f"; the remove of {own:.4g} asked for it has no effect"
        rows.append(LayerCut(layer.name, layer.class_name, units, gone, asked, note))
    return tuple(rows)


def _rows(analysis: Analysis) -> Iterator[tuple[LayerAnalysis, int, frozenset[str]]]:
    """Layers that have units, how many, and their makers' names."""
    for layer in analysis.layers:
        mine = {n: m for n, m in analysis.walk.makers.items() if belongs(m, layer.name)}
        if layer.units is not None or mine:
            units = layer.units or sum(maker.axis.size or 0 for maker in mine.values())
            yield layer, units, frozenset(mine)


def _has_share(candidate: Candidate, prune: Prune) -> bool:
    return prune.scope == "layer" or candidate.wish.remove is not None


def _coupling(candidate: Candidate, prune: Prune, name: str) -> str | None:
    """Whose share holds, where a layer loses what another one was told to lose."""
    held = candidate.wish.remove
    if held is None or candidate.wish.remove_of == name or wish(name, prune).remove == held:
        return None
    return f"coupled with {candidate.wish.remove_of}, whose remove of {held:.4g} holds"


def _limit(
    candidate: Candidate, prune: Prune, gone: int, fraction: float, step: float
) -> str | None:
    """Which limit decided how many units of a group go, if any."""
    if _has_share(candidate, prune) and gone == candidate.asked(fraction, step):
        return None
    if candidate.size - gone <= candidate.at_least:
        if candidate.at_least > prune.min_units:
            whose = f"{candidate.wish.max_remove:.4g} of {candidate.wish.max_remove_of}"
            return f"held at the max_remove of {whose}"
        return f"its last units stay: min_units is {prune.min_units}"
    return None if prune.round_to is None else f"kept a multiple of {prune.round_to}"
