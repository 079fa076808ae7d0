"""Asked beside achieved, for every kind of target, and how the verdict says it."""

from typing import Any

import pytest

from app.domain.metrics import State, TargetFigure
from app.domain.prune import Prune
from tests.workers.engine.zoo import mlp, randomise
from tests.workers.report.test_report import figures, spec
from workers import engine
from workers.report.target import planned_target, target_figure
from workers.report.verdict import verdict
from workers.search.resolve import Resolved
from workers.search.tally import Tally

BEFORE = State(parameters=1000, nonzero_parameters=1000, macs=2000)


def prune(target: dict[str, Any], granularity: str = "channel") -> Prune:
    return Prune.model_validate({"granularity": granularity, "target": target})


def figure(target: dict[str, Any], after: dict[str, Any], **more: Any) -> TargetFigure:
    state = State.model_validate(BEFORE.model_dump() | after)
    found = target_figure(
        prune(target, more.get("granularity", "channel")),
        BEFORE,
        state,
        more.get("tally", Tally()),
        more.get("resolved"),
    )
    assert found is not None
    return found


def timed(p50_ms: float, speed_up: float) -> dict[str, Any]:
    row = {"runtime": "litert", "batch_size": 1, "threads": 1, "p95_ms": 9, "repeats": 50}
    ends = [speed_up * 0.98, speed_up / 0.98]
    return {"latency": [row | {"p50_ms": p50_ms, "speed_up": speed_up, "speed_up_interval": ends}]}


def said(target: TargetFigure) -> str:
    return " ".join(verdict(figures(1.0, (2.0, 1.9, 2.1), target=target), spec("channel")))


@pytest.mark.parametrize(
    ("target", "after", "achieved", "met", "within"),
    [
        ({"kind": "parameters", "keep": 0.5}, {"parameters": 498}, 0.498, True, True),
        ({"kind": "parameters", "keep": 0.5}, {"parameters": 480}, 0.48, True, False),
        ({"kind": "parameters", "keep": 0.5}, {"parameters": 501}, 0.501, False, False),
        ({"kind": "macs", "keep": 0.25}, {"macs": 500}, 0.25, True, True),
        ({"kind": "bytes", "max": 1000}, {"bytes": {"keras": 991}}, 991, True, True),
        ({"kind": "bytes", "max": 1000}, {"bytes": {"keras": 989}}, 989, True, False),
        ({"kind": "bytes", "max": 1000}, {"bytes": {"keras": 1001}}, 1001, False, False),
        ({"kind": "latency", "keep": 0.5}, timed(9, 2.0), 0.5, True, True),
        ({"kind": "latency", "keep": 0.5}, timed(9, 1.97), 1 / 1.97, True, True),
        ({"kind": "latency", "keep": 0.5}, timed(9, 1.9), 1 / 1.9, False, False),
        ({"kind": "latency", "max_ms": 3}, timed(2.5, 4.0), 2.5, True, False),
    ],
)
def test_met_is_at_most_and_within_is_also_near(
    target: Any, after: Any, achieved: float, met: bool, within: bool
) -> None:
    found = figure(target, after, resolved=Resolved(prune=None, value=0.5, note="so it is"))
    assert (found.kind, found.achieved) == (target["kind"], pytest.approx(achieved))
    assert (found.met, found.within) == (met, within)
    text = said(found)
    assert ("TARGET MISSED" in text) == (not met)
    assert ("met with room to spare" in text) == (met and not within)


def test_with_weights_what_is_not_zero_counts() -> None:
    after = {"parameters": 1000, "nonzero_parameters": 300}
    found = figure({"kind": "parameters", "keep": 0.3}, after, granularity="weight")
    assert (found.achieved, found.within) == (0.3, True)
    assert found.unit == "share of the parameters that are not zero"


def test_why_a_latency_was_missed() -> None:
    resolved = Resolved(prune=None, value=0.501, note="units are discrete")
    found = figure({"kind": "latency", "keep": 0.5}, timed(9, 1.955), resolved=resolved)
    assert not found.met
    assert found.note is not None
    assert "the search measured 0.501, the last measurement more" in found.note
    assert "interval, 0.5013 to" not in found.note  # 1/1.955 · 0.98 lies above what was asked.
    text = said(found)
    assert "at most 0.5 of the original's time on litert at batch size 1 asked" in text


def test_what_fits_already_is_told_as_such() -> None:
    note = "already fits: the original measures 900 bytes as keras"
    resolved = Resolved(prune=None, value=900, note=note)
    target = figure({"kind": "bytes", "max": 1000}, {"bytes": {"keras": 900}}, resolved=resolved)
    same = figures(1.0, (1.0, 0.9, 1.1)).before
    metrics = figures(1.0, (1.0, 0.9, 1.1), pruned=same, target=target)
    metrics = metrics.model_copy(update={"after": same})
    first = verdict(metrics, spec("channel"))[0]
    assert first == f"NOTHING WAS REMOVED: the target is met as it is; {note}."


def test_a_job_without_target_has_no_figure() -> None:
    threshold = Prune.model_validate({"granularity": "weight", "criterion": "threshold"})
    assert target_figure(threshold, BEFORE, BEFORE, Tally(), None) is None


@pytest.mark.parametrize(
    ("granularity", "scope", "remove", "steps", "total", "removed"),
    [
        # mlp() has layers of 30 and 10 units that may go, and 640 + 300 + 40 weights.
        ("unit", "layer", 0.33, (1.0,), 40, 10 + 3),
        ("unit", "layer", 0.5, (0.2, 0.6, 1.0), 40, 15 + 5),
        ("unit", "global", 0.5, (0.5, 1.0), 40, 20),
        ("weight", "layer", 0.34, (0.5, 1.0), 940, 204 + 102 + 14),
        ("weight", "global", 0.34, (1.0,), 940, 320),
    ],
)
def test_fractions_are_counted_over_all_steps(
    granularity: str, scope: str, remove: float, steps: Any, total: int, removed: int
) -> None:
    model, tally = randomise(mlp()), Tally()
    target = {"kind": "fraction", "remove": remove}
    asked = prune(target, granularity).model_copy(update={"scope": scope})
    progress = engine.begin(model)
    for share in steps:
        cut = engine.choose(model, asked, share=share, progress=progress)
        model, progress, tally = engine.apply(model, cut), cut.progress, tally.after(cut)
    assert (tally.total, tally.removed) == (total, removed)
    found = figure(target, {}, granularity=granularity, tally=tally)
    assert (found.met, found.within) == (True, True)
    assert found.achieved == pytest.approx(removed / total)


def test_a_fraction_held_by_limits_is_missed_and_says_so() -> None:
    model = randomise(mlp())
    target = {"kind": "fraction", "remove": 0.9}
    asked = prune(target, "unit").model_copy(update={"min_units": 8})
    tally = Tally().after(engine.choose(model, asked))
    found = figure(target, {}, granularity="unit", tally=tally)
    assert (tally.removed, found.met) == (22 + 2, False)
    assert found.note is not None
    assert found.note.startswith("24 of the 36 asked for went: limits (min_units")
    assert "TARGET MISSED (at least 0.9 share of the units removed asked, 0.6" in said(found)


def test_a_plan_says_what_it_foresees() -> None:
    asked = prune({"kind": "bytes", "max": 1000})
    found = planned_target(asked, Resolved(prune=asked, value=995, measured=False))
    assert found is not None
    assert (found.asked, found.achieved, found.met) == (1000, 995, True)
    assert planned_target(asked, Resolved(prune=None, value=None)) is None


def test_a_latency_is_that_of_one_thread_where_all_were_timed_too() -> None:
    (row,) = timed(9, 2.0)["latency"]
    both = {"latency": [row | {"threads": 8, "speed_up": 4.0}, row]}
    assert figure({"kind": "latency", "keep": 0.5}, both).achieved == 0.5


def test_the_verdict_says_how_many_threads_where_it_is_not_the_usual() -> None:
    usual = figures(1.0, (2.0, 1.9, 2.1))
    states = {
        name: state.model_copy(
            update={
                "latency": tuple(row.model_copy(update={"threads": 4}) for row in state.latency)
            }
        )
        for name, state in (("before", usual.before), ("after", usual.after))
    }
    assert "threads" not in " ".join(verdict(usual, spec("channel")))
    assert "with 4 threads" in " ".join(verdict(usual.model_copy(update=states), spec("channel")))
