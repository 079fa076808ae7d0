"""What the target asked for, and what became of it."""

from app.domain.errors import InternalError
from app.domain.metrics import LatencyValue, State, TargetFigure
from app.domain.prune import (
    AccuracyDropTarget,
    BytesTarget,
    FractionTarget,
    LatencyTarget,
    MacsTarget,
    ParametersTarget,
    Prune,
)
from workers.evaluation.lost import Lost
from workers.search.resolve import (
    BYTES_TOLERANCE,
    LATENCY_TOLERANCE,
    Resolved,
    Searched,
    asked,
    unit,
)
from workers.search.tally import Tally

TOLERANCE = BYTES_TOLERANCE
"""Relative; latencies have their own."""
PIECES = {"layer": "layers and residual blocks"}
"""What is counted, by granularity, where that is not its name with an s."""
DISCRETE = "units are discrete: the next larger choice would keep more than was asked for"
DEAD = (
    "the weights were zeroed to the target; units that this left dead then went as a whole, which "
    "changes no output (shrink: false keeps them)"
)
"""Why less is left than was asked for."""


def target_figure(
    prune: Prune,
    before: State,
    after: State,
    tally: Tally,
    resolved: Resolved | None,
    lost: Lost | None = None,
) -> TargetFigure | None:
    """Asked beside achieved, for every kind of target; None where there is no target.

    Args:
        prune: as the spec has it.
        before: the original, with its measurements.
        after: the final model, with its measurements.
        tally: what was removed over all steps.
        resolved: what the search found, for bytes, latency and accuracy_drop.
        lost: of accuracy on test samples, for accuracy_drop.
    """
    match prune.target:
        case None:
            return None
        case FractionTarget(remove=remove):
            return _fraction(prune, remove, tally)
        case ParametersTarget(keep=keep):
            left = after.parameters if prune.structured else after.nonzero_parameters
            what = "share of the parameters" + ("" if prune.structured else " that are not zero")
            shrunk = not prune.structured and after.parameters < before.parameters
            less = DEAD if shrunk else DISCRETE
            return _kept("parameters", keep, left / max(before.parameters, 1), what, less)
        case MacsTarget(keep=keep):
            return _kept("macs", keep, after.macs / max(before.macs, 1), "share of the MACs")
        case BytesTarget() as target:
            return _bytes(target, after, resolved)
        case LatencyTarget() as target:
            return _latency(target, after, resolved)
        case AccuracyDropTarget() as target:
            return _drop(target, resolved, lost)


def planned_target(prune: Prune, resolved: Resolved) -> TargetFigure | None:
    """What a dry run foresees for a bytes or latency target; None where it cannot tell."""
    target = prune.target
    if not isinstance(target, BytesTarget | LatencyTarget) or resolved.value is None:
        return None
    return _searched(target, resolved.value, resolved, resolved.note)


def _searched(
    target: Searched, achieved: float, resolved: Resolved | None, note: str | None
) -> TargetFigure:
    limit = asked(target)
    sizes = isinstance(target, BytesTarget)
    low, high = (BYTES_TOLERANCE, 0.0) if sizes else (LATENCY_TOLERANCE, LATENCY_TOLERANCE)
    met = achieved <= limit * (1.0 + high)
    return TargetFigure(
        kind=target.kind,
        asked=limit,
        achieved=achieved,
        unit=unit(target),
        met=met,
        within=met and achieved >= limit * (1.0 - low),
        note=note,
        trials=resolved.trials if resolved else (),
    )


def _fraction(prune: Prune, remove: float, tally: Tally) -> TargetFigure:
    wanted = round(remove * tally.total) if tally.wanted is None else tally.wanted
    gap = tally.removed - wanted
    allowed = max(TOLERANCE * wanted, 0.5)
    achieved = tally.removed / max(tally.total, 1)
    note = None
    if gap < -allowed:
        note = (
            f"{tally.removed:,} of the {wanted:,} asked for went: limits (min_units, max_remove, "
            "round_to, or a share that rounds to none) held some layers, whose notes say which"
        )
    elif gap > allowed:
        note = f"{tally.removed:,} went where {wanted:,} were asked for, to meet round_to"
    elif abs(achieved - remove) > TOLERANCE * remove:
        note = "exactly what the share comes to in whole numbers, layer by layer"
    kind = prune.granularity.kind if prune.structured else "weight"
    return TargetFigure(
        kind="fraction",
        asked=remove,
        achieved=achieved,
        unit=f"share of the {PIECES.get(kind, f'{kind}s')} removed",
        met=gap >= -allowed,
        within=abs(gap) <= allowed,
        note=note,
    )


def _kept(kind: str, keep: float, achieved: float, unit: str, less: str = DISCRETE) -> TargetFigure:
    met = achieved <= keep * (1.0 + 1e-9)
    within = met and achieved >= keep * (1.0 - TOLERANCE)
    return TargetFigure(
        kind=kind,
        asked=keep,
        achieved=achieved,
        unit=unit,
        met=met,
        within=within,
        note=None if within or not met else less,
    )


def _bytes(target: BytesTarget, after: State, resolved: Resolved | None) -> TargetFigure:
    achieved = after.bytes[target.export]
    note = resolved.note if resolved else None
    if achieved > target.max and resolved is not None and resolved.value is not None:
        note = (
            f"the search found a cut of {resolved.value:,.0f} bytes, but the final file is larger: "
            "after training in between other units went, or values that the format stores once "
            "where they are equal differ now"
        )
    return _searched(target, achieved, resolved, note)


def _latency(target: LatencyTarget, after: State, resolved: Resolved | None) -> TargetFigure:
    row = timed(target, after)
    if row is None:
        if resolved is None or resolved.value is None:
            raise InternalError("The job's state lacks what the search for its target found.")
        said = "the final model could not be timed again; this is what the search measured"
        return _searched(target, resolved.value, resolved, said)
    achieved, interval = _time(target, row)
    figure = _searched(target, achieved, resolved, None)
    if figure.within:
        return figure
    note = _why_not(figure, interval, resolved)
    return figure.model_copy(update={"note": note})


def _drop(target: AccuracyDropTarget, resolved: Resolved | None, lost: Lost | None) -> TargetFigure:
    if resolved is None or lost is None:
        raise InternalError("The job's state lacks what the search for its target found.")
    met, note = lost.points <= target.max_points, resolved.note
    if not met:
        note = (
            f"the candidate lost {resolved.value or 0.0:.2f} points on the validation samples that "
            "chose it"
        )
        if lost.interval[0] <= target.max_points:
            note += (
                f"; these test samples cannot tell the two apart: the 95 % interval begins at "
                f"{lost.interval[0]:.2f}"
            )
    return TargetFigure(
        kind="accuracy_drop",
        asked=target.max_points,
        achieved=lost.points,
        unit="points of accuracy lost on test samples",
        met=met,
        within=met,
        note=note,
        interval=lost.interval,
        trials=resolved.trials,
    )


def _why_not(
    figure: TargetFigure, interval: tuple[float, float] | None, resolved: Resolved | None
) -> str | None:
    said = [resolved.note] if resolved and resolved.note else []
    if not figure.met and resolved is not None and resolved.value is not None:
        said.append(f"the search measured {resolved.value:.4g}, the last measurement more")
    if interval is not None and interval[0] <= figure.asked <= interval[1]:
        said.append(
            f"the last measurement's 95 % interval, {interval[0]:.4g} to {interval[1]:.4g}, holds "
            "the asked value"
        )
    return "; ".join(said) or None


def timed(target: LatencyTarget, state: State) -> LatencyValue | None:
    """The measurement on the target's runtime at its batch size, if it was made."""
    rows = [
        row
        for row in state.latency
        if (row.runtime, row.batch_size) == (target.runtime, target.batch_size)
    ]
    # The search times one thread, where a runtime can be told; that row comes first.
    return min(rows, key=lambda row: row.threads, default=None)


def _time(target: LatencyTarget, row: LatencyValue) -> tuple[float, tuple[float, float] | None]:
    """Achieved time in the target's unit, with its interval where there is one."""
    if target.keep is None or not row.speed_up:
        return row.p50_ms, None
    ends = row.speed_up_interval
    return 1.0 / row.speed_up, (1.0 / ends[1], 1.0 / ends[0]) if ends else None
