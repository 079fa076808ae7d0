"""From a bytes or latency target to the parameters or MACs target that reaches it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.base import Record
from app.domain.metrics import TrialFigure
from app.domain.prune import AccuracyDropTarget, BytesTarget, LatencyTarget, Prune
from workers.measure import latency
from workers.measure import pair as pairs
from workers.search.ladder import Choose, Ladder
from workers.search.measures import CallTime, FileBytes, TimePair
from workers.search.seek import Candidate, Found, Goal, Reading, seek

Searched = BytesTarget | LatencyTarget
BYTES_TOLERANCE = 0.01
LATENCY_TOLERANCE = 0.02
BYTES_TRIALS = 16
LATENCY_TRIALS = 8
QUICK_SECONDS = 12.0
"""A dry run exports no more after this long, and answers with an estimate."""
QUICK_TRIALS = 2
QUICK_REPEATS = 15
QUICK_BUDGET_SECONDS = 4.0
"""For one comparison of latencies in a dry run."""
QUICK_MACS = 2_000_000_000
"""Calls of more MACs take too long for a dry run."""


class Resolved(Record):
    """What a search found; part of a job's checkpoint, so that no attempt searches again."""

    prune: Prune | None
    """The spec with the equivalent target; None: the original fits, nothing is to be removed."""
    value: float | None = None
    """Of the chosen cut, in the target's unit; None where a dry run cannot tell."""
    measured: bool = True
    """False where a dry run foresaw the value."""
    trials: tuple[TrialFigure, ...] = ()
    allocation: dict[str, float] = {}
    """With scope sensitivity: the share of each layer that goes."""
    given_up: tuple[float, ...] = ()
    """Shares whose candidates could not be made."""
    note: str | None = None


@dataclass(frozen=True)
class Bench:
    """Where and how a search measures."""

    folder: Path
    seed: int
    prepare: Callable[[Any], None]
    """Makes a copy like the job's results: compiled, and changed by training where it trains."""
    repeats: int
    tell: Callable[[TrialFigure], None] = lambda figure: None
    quick: bool = False
    """For a dry run: fewer measurements, estimates instead."""
    time_pair: TimePair = pairs.time_pair


def resolve(model: Any, prune: Prune, choose: Choose, bench: Bench) -> Resolved | None:
    """Search on the original model; None for targets that need no search.

    An accuracy_drop target is the job's own to search for: it needs training.

    Args:
        model: the original model.
        prune: the spec with the target to resolve.
        choose: the engine's choice for this model under any spec.
        bench: where and how to measure.

    Raises:
        EngineRefusal: even the smallest cut misses the target, or it cannot be measured.
    """
    target = prune.target
    match target:
        case BytesTarget():
            ladder = Ladder(model, prune, "parameters", choose)
            size = FileBytes(model, target, bench.folder, bench.prepare)
            found = _seek(target, ladder, size, bench)
        case LatencyTarget():
            ladder = Ladder(model, prune, "macs", choose)
            if bench.quick and ladder.original.macs * target.batch_size > QUICK_MACS:
                return _unmeasured(target, ladder)
            found = _seek(target, ladder, _call_time(model, target, bench), bench)
        case AccuracyDropTarget():
            said = "what goes is found by pruning and training candidates, and not foreseen here"
            return Resolved(prune=None, measured=False, note=said)
        case _:
            return None
    return _resolved(found, ladder)


def is_searched(prune: Prune) -> bool:
    """Whether the target is one that `resolve` resolves."""
    return isinstance(prune.target, BytesTarget | LatencyTarget)


def goal(target: Searched, *, quick: bool) -> Goal:
    """What the search for a target is content with."""
    limit, say = asked(target), spoken(target)
    if isinstance(target, BytesTarget):
        return Goal(
            limit=limit,
            lever="parameters",
            tolerance=BYTES_TOLERANCE,
            say=say,
            measurements=BYTES_TRIALS,
            estimates=quick,
        )
    return Goal(
        limit=limit,
        lever="macs",
        tolerance=LATENCY_TOLERANCE,
        slack=LATENCY_TOLERANCE,
        say=say,
        noisy=True,
        measurements=QUICK_TRIALS if quick else LATENCY_TRIALS,
        estimates=quick,
    )


def asked(target: Searched) -> float:
    """The limit in the target's unit."""
    if isinstance(target, BytesTarget):
        return float(target.max)
    limit = target.max_ms if target.keep is None else target.keep
    assert limit is not None
    return limit


def unit(target: Searched) -> str:
    """What a value of the target counts, for people: `bytes as litert`."""
    if isinstance(target, BytesTarget):
        return f"bytes as {target.export}"
    what = "ms" if target.keep is None else "of the original's time"
    return f"{what} on {target.runtime} at batch size {target.batch_size}"


def spoken(target: Searched) -> Callable[[float], str]:
    """How to say a value of the target."""
    form = ",.0f" if isinstance(target, BytesTarget) else ".4g"
    return lambda value: f"{value:{form}} {unit(target)}"


def _call_time(model: Any, target: LatencyTarget, bench: Bench) -> CallTime:
    return CallTime(
        model,
        target,
        bench.folder,
        bench.seed,
        QUICK_REPEATS if bench.quick else bench.repeats,
        QUICK_BUDGET_SECONDS if bench.quick else latency.BUDGET_SECONDS,
        bench.time_pair,
    )


def _seek(
    target: Searched, ladder: Ladder, measure: Callable[[Candidate], Reading], bench: Bench
) -> Found:
    ends = time.monotonic() + QUICK_SECONDS
    return seek(
        goal(target, quick=bench.quick),
        ladder,
        measure,
        bench.tell,
        lambda: not bench.quick or time.monotonic() < ends,
    )


def _resolved(found: Found, ladder: Ladder) -> Resolved:
    candidate = found.candidate
    return Resolved(
        prune=None if candidate is None else ladder.equivalent(ladder.size(candidate)),
        value=found.value,
        measured=found.measured,
        trials=found.trials,
        note=found.note,
    )


def _unmeasured(target: LatencyTarget, ladder: Ladder) -> Resolved:
    """For models whose calls are too long for a dry run: time taken as proportional to MACs."""
    slow = "calls of this model take too long for a dry run"
    if target.keep is None:
        return Resolved(
            prune=None,
            measured=False,
            note=f"{slow}: what goes is found by measuring in the job, and nothing is foreseen",
        )
    candidate = ladder.at_most(int(target.keep * ladder.original.macs)) or ladder.floor()
    return Resolved(
        prune=ladder.equivalent(candidate.macs),
        value=candidate.keep,
        measured=False,
        note=f"{slow}: time is taken as proportional to MACs here, and measured in the job",
    )
