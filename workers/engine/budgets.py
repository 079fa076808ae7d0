"""How many units each group loses so that a target is met."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.prune import FractionTarget, MacsTarget, ParametersTarget, Prune
from workers.engine.analysis import Analysis
from workers.engine.candidates import Candidate
from workers.engine.costs import MEASURES, Terms, mac_entries, time_entries
from workers.engine.cut import Progress
from workers.engine.masks import Mask, removal_count, smallest
from workers.engine.prediction import Sizes
from workers.engine.weights import least

SLACK = 0.01
"""How far below a budget a choice may stay before single units are given back."""

GIVEN_BACK = 4
"""Of what a dense group has lost it gets at most one part in so many back to fill a budget."""

Choice = dict[str, int]
"""How many units each group loses now, by the group's key."""


@dataclass(frozen=True)
class Reached:
    """A choice, and the share of units it was asked by."""

    choice: Choice
    fraction: float


@dataclass(frozen=True)
class OutOfReach(Exception):
    """Even with all that may go gone, the target is missed; `share` of `what` would be left."""

    what: str
    keep: float
    share: float


def reach(
    analysis: Analysis, found: list[Candidate], prune: Prune, step: float, progress: Progress
) -> Reached:
    """Remove units until `step` of the way to the target is done.

    With a budget, the share of units is searched for that just meets it; what was removed beyond
    the budget, by rounding to multiples or by equal groups losing a unit at once, is then given
    back, the largest part first, and single units where more than `SLACK` would be missing.

    Raises:
        OutOfReach: the target cannot be met.
    """
    try:
        return _reach(analysis, found, prune, step, progress)
    except OutOfReach:
        # Multiples that nobody asked for must not stand in the way.
        loose = [replace(candidate, lanes=False) for candidate in found]
        return _reach(analysis, loose, prune, step, progress)


def _reach(
    analysis: Analysis, found: list[Candidate], prune: Prune, step: float, progress: Progress
) -> Reached:
    target = prune.target
    if prune.scope == "latency":
        return Reached(_by_time(analysis, found, prune, step, progress), 0.0)
    if isinstance(target, FractionTarget):
        fraction = step * target.remove
        return Reached(choose(found, prune, fraction, step), fraction)
    if not isinstance(target, MacsTarget | ParametersTarget):
        raise TypeError(f"a target of kind {target.kind if target else None} is searched for")
    sizes = Sizes(analysis)
    macs = isinstance(target, MacsTarget)
    what, measure = ("MACs", sizes.macs) if macs else ("parameters", sizes.parameters)
    whole = progress.macs if macs else progress.parameters
    limit = (1.0 - step * (1.0 - target.keep)) * whole

    def left(choice: Choice) -> int:
        return measure(keep(analysis, found, choice))

    fraction_or_none = least(lambda share: left(choose(found, prune, share, step)) <= limit)
    if fraction_or_none is None:
        share = left(choose(found, prune, 1.0, step)) / max(whole, 1)
        raise OutOfReach(what, target.keep, share)
    fraction = fraction_or_none
    tight = choose(found, prune, fraction, step)
    loose = choose(found, prune, max(0.0, fraction - 1e-9), step)
    choice = _given_back(tight, loose, left, limit)
    if prune.round_to is None and left(choice) < (1.0 - SLACK) * limit:
        choice = _singly_given_back(choice, loose, found, left, limit)
    return Reached(choice, fraction)


def _by_time(
    analysis: Analysis, found: list[Candidate], prune: Prune, step: float, progress: Progress
) -> Choice:
    """The units that give least for the time that they cost go, a multiple at a time.

    A unit gives its saliency times its multiply-accumulates: of two models as fast, the one that
    computes more is taken to be the better one. [After HALP, Shen et al. 2022, arXiv:2110.10811,
    which solves the knapsack exactly] Two departures, found on the architectures of
    benchmarks/coverage.py: multiply-accumulates per time count squared, or the time of
    convolutions, in proportion to them, hides the rest; a unit gives more as its group narrows.
    """
    groups = [candidate.group for candidate in found]
    time = Terms(analysis, groups, time_entries(analysis))
    macs = Terms(analysis, groups, mac_entries(analysis))
    original = np.array([c.original for c in found], dtype=np.float64)
    kept = np.array([c.size for c in found], dtype=np.float64)
    done, owed = _goal(analysis, found, prune, step, progress)
    saliency = [candidate.relative[candidate.order] for candidate in found]
    own = np.array([c.wish.remove is not None for c in found])
    kept[own] -= [c.limited(c.asked(0.0, step)) for c in found if c.wish.remove is not None]
    steps = np.zeros(len(found), dtype=np.int64)
    ranked = np.full(len(found), np.inf)

    def look(number: int) -> None:
        """Which units of a group are next, and how salient they are."""
        now = int(kept[number])
        steps[number] = 0 if own[number] else _step(found[number], now)
        first = found[number].size - now
        upcoming = saliency[number][first : first + steps[number]]
        ranked[number] = upcoming.mean() if upcoming.size else np.inf

    for number in range(len(found)):
        look(number)
    while not done(kept):
        rate = macs.gradient(kept) / np.maximum(time.gradient(kept), 1e-12)
        worth = np.full(len(found), np.inf)
        may = steps > 0
        worth[may] = (ranked * rate**2 / (kept / original))[may]
        if not np.isfinite(worth).any():
            raise owed(kept)
        chosen = int(np.argmin(worth))
        kept[chosen] -= steps[chosen]
        look(chosen)
    choice = {c.group.key: c.size - int(n) for c, n in zip(found, kept, strict=True)}
    return _trimmed(choice, found, prune, done, kept)


def _step(candidate: Candidate, kept: int) -> int:
    """How many units go next: down to the next multiple, as far as they may."""
    lanes = candidate.multiple or 1
    lower = (kept - 1) // lanes * lanes
    least = candidate.at_least if lanes == 1 else max(lanes, candidate.at_least)
    return kept - lower if lower >= least else 0


Done = Callable[[NDArray[Any]], bool]


def _goal(
    analysis: Analysis, found: list[Candidate], prune: Prune, step: float, progress: Progress
) -> tuple[Done, Callable[[NDArray[Any]], OutOfReach]]:
    """When enough has gone, and what to say if it never does."""
    target = prune.target
    if isinstance(target, FractionTarget):
        total = sum(c.original for c in found)
        stay = total - removal_count(step * target.remove, total)

        def short(kept: NDArray[Any]) -> OutOfReach:
            return OutOfReach("units", 1.0 - target.remove, float(kept.sum()) / max(total, 1))

        return lambda kept: bool(kept.sum() <= stay), short
    if not isinstance(target, MacsTarget | ParametersTarget):
        raise TypeError(f"a target of kind {target.kind if target else None} is searched for")
    macs = isinstance(target, MacsTarget)
    whole = progress.macs if macs else progress.parameters
    limit = (1.0 - step * (1.0 - target.keep)) * whole
    terms = Terms(analysis, [c.group for c in found], MEASURES[target.kind](analysis))

    def missed(kept: NDArray[Any]) -> OutOfReach:
        what = "MACs" if macs else "parameters"
        return OutOfReach(what, target.keep, terms.value(kept) / max(whole, 1))

    return lambda kept: terms.value(kept) <= limit, missed


def _trimmed(
    choice: Choice, found: list[Candidate], prune: Prune, done: Done, kept: NDArray[Any]
) -> Choice:
    """The last step made as small as the target allows, where no multiple was asked for."""
    if prune.round_to is not None:
        return choice
    trimmed = dict(choice)
    for number, candidate in enumerate(found):
        low, high = 0, trimmed[candidate.group.key]
        limit = high - (candidate.multiple or 1) + 1
        low = max(low, limit)
        while low < high:
            middle = (low + high) // 2
            trial = kept.copy()
            trial[number] = candidate.size - middle
            low, high = (low, middle) if done(trial) else (middle + 1, high)
        if high < trimmed[candidate.group.key]:
            trimmed[candidate.group.key] = high
            kept = kept.copy()
            kept[number] = candidate.size - high
    return trimmed


Left = Callable[[Choice], int]


def _given_back(tight: Choice, loose: Choice, left: Left, limit: float) -> Choice:
    """As many groups of `tight` as in `loose` as the limit allows."""
    choice = tight
    for key in _by_gain(tight, loose, left):
        trial = {**choice, key: loose[key]}
        if left(trial) <= limit:
            choice = trial
    return choice


def _singly_given_back(
    tight: Choice, loose: Choice, found: list[Candidate], left: Left, limit: float
) -> Choice:
    """As many units of few groups as the limit allows, until it is nearly met.

    Units of dense layers take up the rest if they can without growing out of proportion:
    convolutions then keep the multiples that their kernels need to be fast, matrix products hardly
    notice. Otherwise the group with the costliest units comes first.
    """
    by_gain = _by_gain(tight, {key: max(0, n - 1) for key, n in tight.items()}, left)
    dense = {candidate.group.key for candidate in found if candidate.group.dense_only}
    proportionate = {key: removed - removed // GIVEN_BACK for key, removed in tight.items()}
    choice = _filled(tight, [key for key in by_gain if key in dense], proportionate, left, limit)
    if left(choice) >= (1.0 - SLACK) * limit:
        return choice
    fewest = {key: loose[key] if loose[key] < removed else 0 for key, removed in tight.items()}
    return _filled(tight, by_gain, fewest, left, limit)


def _filled(
    tight: Choice, order: Sequence[str], fewest: Choice, left: Left, limit: float
) -> Choice:
    """Group by group, as few units go as `fewest` and the limit allow, until it is nearly met."""
    choice = dict(tight)
    for key in order:
        low, high = fewest[key], choice[key]
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if left({**choice, key: middle}) <= limit else (middle + 1, high)
            )
        choice[key] = high
        if left(choice) >= (1.0 - SLACK) * limit:
            break
    return choice


def _by_gain(tight: Choice, loose: Choice, left: Left) -> list[str]:
    """Groups that lose less in `loose`, the one that this gives most back to in front."""
    base = left(tight)
    gains = {
        key: left({**tight, key: loose[key]}) - base for key in tight if loose[key] < tight[key]
    }
    return sorted(gains, key=lambda key: -gains[key])


def choose(found: list[Candidate], prune: Prune, fraction: float, step: float) -> Choice:
    """How many go when `fraction` of all units should: in each group, or where groups compete."""
    if prune.scope == "layer":
        return {c.group.key: c.limited(c.asked(fraction, step)) for c in found}
    own = [c for c in found if c.wish.remove is not None]
    choice = {c.group.key: c.limited(c.asked(fraction, step)) for c in own}
    leagues: dict[Hashable, list[Candidate]] = {}
    for candidate in found:
        if candidate.wish.remove is None:
            leagues.setdefault(candidate.kind, []).append(candidate)
    for competing in leagues.values():
        gone = sum(c.original - c.size for c in competing)
        count = removal_count(fraction, sum(c.original for c in competing)) - gone
        choice.update(_compete(competing, count))
    return choice


def _compete(found: Sequence[Candidate], count: int) -> Choice:
    """The units with the smallest saliency, relative to their group's, go first."""
    saliency = []
    for candidate in found:
        relative = candidate.relative.copy()
        relative[candidate.order[candidate.size - candidate.at_least :]] = np.inf
        saliency.append(relative)
    free = sum(c.size - c.at_least for c in found)
    # Model order among equals: by root, whatever group it is in.
    units = np.concatenate([c.group.units for c in found])
    by_model = np.argsort(units, kind="stable")
    chosen = np.zeros(units.size, dtype=np.bool_)
    chosen[by_model] = smallest(np.concatenate(saliency)[by_model], max(0, min(count, free)))
    parts = np.split(chosen, np.cumsum([c.size for c in found])[:-1])
    return {c.group.key: c.limited(int(part.sum())) for c, part in zip(found, parts, strict=True)}


def keep(analysis: Analysis, found: list[Candidate], choice: Choice) -> Mask:
    """One entry per name: what stays when each group loses its least salient units."""
    stays = analysis.keep_all()
    for candidate in found:
        stays[candidate.group.units[candidate.order[: choice[candidate.group.key]]]] = False
    return stays
