"""The search itself, on made-up sizes and values: no model, no file, no clock."""

from collections.abc import Callable

import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from app.domain.metrics import TrialFigure
from workers.search.line import fit
from workers.search.seek import Candidate, Found, Goal, Reading, seek


class Rungs:
    """Cuts of a model of 1000 that keep the sizes given."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.original = Candidate(1.0, 1000, 1000)

    def floor(self) -> Candidate:
        return self._cut(min(self.sizes))

    def at_most(self, size: int) -> Candidate | None:
        fitting = [each for each in self.sizes if each <= size]
        return self._cut(max(fitting)) if fitting else None

    def _cut(self, size: int) -> Candidate:
        return Candidate(size / 1000, size, size, cut=f"cut to {size}")


FINE = Rungs(*range(100, 1000))


def goal(limit: float, **fields: object) -> Goal:
    defaults = {"lever": "parameters", "tolerance": 0.01, "say": lambda value: f"{value:.0f} B"}
    return Goal(limit=limit, **{**defaults, **fields})  # type: ignore[arg-type]


def latency_goal(limit: float, **fields: object) -> Goal:
    said = {"say": lambda value: f"{value:.2f} ms", "lever": "macs", "noisy": True}
    return goal(limit, tolerance=0.02, slack=0.02, **said, **fields)


def affine(candidate: Candidate) -> Reading:
    return Reading(1000 + 4 * candidate.parameters)


def kept(found: Found) -> int:
    assert found.candidate is not None
    return found.candidate.parameters


def noisy(
    time: Callable[[int], float], spread: float, seed: int = 0
) -> Callable[[Candidate], Reading]:
    """Readings around `time(macs)`, off by a relative normal error, with an honest interval."""
    random = np.random.default_rng(seed)

    def measure(candidate: Candidate) -> Reading:
        value = time(candidate.macs) * (1 + spread * random.standard_normal())
        return Reading(value, (value * (1 - 2 * spread), value * (1 + 2 * spread)))

    return measure


def test_the_line_through_exact_points_is_exact() -> None:
    line = fit([0, 10, 20], [5, 25, 45], limit=30)
    assert (line.intercept, line.slope) == (pytest.approx(5), pytest.approx(2))
    assert line.value(7) == pytest.approx(19)
    assert line.size(19) == pytest.approx(7)


def test_the_line_is_decided_by_the_trials_near_the_limit() -> None:
    # y = x²: the plain least-squares line gives 140 at 10, the mean of the values.
    line = fit([0, 9, 10, 11, 20], [0, 81, 100, 121, 400], limit=100)
    assert line.value(10) == pytest.approx(100, rel=0.03)


def test_a_flat_line_points_nowhere() -> None:
    assert fit([1, 2], [3, 3], limit=3).size(4) is None
    assert fit([1], [3], limit=3).slope == 0


def test_affine_bytes_take_one_trial_more_than_the_ends() -> None:
    told: list[TrialFigure] = []
    found = seek(goal(3000), FINE, affine, told.append)
    # 0.995 · 3000 bytes, the middle of what is close enough, are (2985 - 1000) / 4 parameters.
    assert kept(found) == 496
    assert [each.parameters for each in told] == [1000, 100, 496]
    assert [each.predicted for each in told] == [None, None, pytest.approx(2984)]
    assert found.trials == tuple(told)
    assert found.note is None


def test_the_largest_of_discrete_choices_is_found_and_the_next_one_named() -> None:
    found = seek(goal(3000), Rungs(100, 300, 480, 505, 700), affine)
    assert kept(found) == 480
    assert found.value == 2920
    assert found.note == "units are discrete: the next larger choice measures 3020 B"


def test_where_nothing_lies_below_the_original_it_is_named() -> None:
    found = seek(goal(4800), Rungs(100, 300), affine)
    assert kept(found) == 300
    assert found.note is not None
    assert "the next larger choice, the original, measures 5000 B" in found.note


def test_what_fits_already_is_left_alone() -> None:
    found = seek(goal(5000), FINE, affine)
    assert found.candidate is None
    assert found.note == "already fits: the original measures 5000 B"
    assert len(found.trials) == 1


def test_an_original_within_the_slack_is_still_cut() -> None:
    found = seek(latency_goal(0.99), FINE, lambda each: Reading(each.macs / 1000))
    assert 970 <= kept(found) <= 999


def test_beyond_the_smallest_is_refused_with_its_size_and_the_overhead() -> None:
    with pytest.raises(EngineRefusal, match=r"at most 1399 B.*0\.1 of the param.*1400 B") as caught:
        seek(goal(1399), FINE, affine)
    assert "Without any parameters it would still be about 1000 B" in caught.value.detail
    assert caught.value.field == "prune.target"


@pytest.mark.parametrize("limit", [1500, 2500, 3333, 4700, 4990])
def test_values_that_are_not_affine_converge_too(limit: float) -> None:
    def curved(candidate: Candidate) -> Reading:
        return Reading(1000 + 4 * candidate.parameters**1.5 / 1000**0.5)

    found = seek(goal(limit, measurements=16), FINE, curved)
    assert limit * 0.985 <= found.value <= limit
    assert len(found.trials) <= 8


def test_files_that_grow_in_blocks_do_not_make_the_search_creep() -> None:
    def blocks(candidate: Candidate) -> Reading:
        return Reading(2048 * -(-(1000 + 40 * candidate.parameters) // 2048))

    # 7 · 2048 = 14336 bytes hold (14336 - 1000) / 40 = 333 parameters.
    found = seek(goal(16_000, measurements=16), FINE, blocks)
    assert kept(found) == 333
    assert found.note == "units are discrete: the next larger choice measures 16384 B"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0.002, 0.01])
def test_noisy_times_end_near_the_limit_within_eight_measurements(seed: int, spread: float) -> None:
    def true(macs: int) -> float:
        return 0.2 + 0.8 * macs / 1000

    found = seek(latency_goal(0.5), FINE, noisy(true, spread, seed))
    assert len(found.trials) <= 8
    assert found.value <= 0.5 * 1.02
    # Two readings' mean is off by spread / √2; four of those, beside the tolerance.
    assert true(kept(found)) == pytest.approx(0.5, rel=0.04 + 3 * spread)


def test_a_close_time_is_measured_twice_before_it_is_believed() -> None:
    lucky = iter([Reading(1.0), Reading(0.2), Reading(0.5), Reading(0.6)])
    told: list[TrialFigure] = []

    def measure(candidate: Candidate) -> Reading:
        return next(lucky, Reading(candidate.macs / 1000))

    found = seek(latency_goal(0.5), FINE, measure, told.append)
    assert told[2].parameters == told[3].parameters
    assert found.candidate is not None
    assert found.candidate.parameters < told[2].parameters


def test_an_interval_that_holds_the_limit_ends_the_search() -> None:
    def measure(candidate: Candidate) -> Reading:
        value = candidate.macs / 1000 if candidate.macs in (100, 1000) else 0.47
        return Reading(value, (value * 0.9, value * 1.1))

    found = seek(latency_goal(0.5), FINE, measure)
    assert found.note is not None
    assert "95 % interval, 0.42 ms to 0.52 ms, holds the asked value" in found.note


def test_a_floor_that_may_be_fast_enough_is_kept_and_said() -> None:
    def measure(candidate: Candidate) -> Reading:
        return Reading(1.0) if candidate.cut is None else Reading(0.55, (0.45, 0.65))

    found = seek(latency_goal(0.5), FINE, measure)
    assert kept(found) == 100
    assert found.note is not None
    assert "even the smallest cut measured 0.55 ms" in found.note


def test_measuring_ends_and_the_best_so_far_is_taken() -> None:
    def steep(candidate: Candidate) -> Reading:
        return Reading(1000.0 if candidate.parameters < 637 else 9000.0)

    found = seek(goal(3000, measurements=4), FINE, steep)
    assert found.value == 1000
    assert found.note == "the search ended after 4 measurements"
    assert len(found.trials) == 4


@pytest.mark.parametrize("why", [{"measurements": 2}, {"go_on": lambda: False}])
def test_a_dry_run_estimates_from_the_two_ends(why: dict[str, object]) -> None:
    go_on = why.pop("go_on", lambda: True)
    found = seek(goal(3000, estimates=True, **why), FINE, affine, go_on=go_on)  # type: ignore[arg-type]
    assert not found.measured
    assert kept(found) == 496
    assert found.value == pytest.approx(2984)
    assert len(found.trials) == 2
