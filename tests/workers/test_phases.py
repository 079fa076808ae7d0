"""Times that a job's process tells are trimmed to what can be true."""

import time

import pytest

from workers import phases
from workers.phases import Phases


def test_a_phase_is_counted_by_its_name() -> None:
    told, now = Phases(), time.time()
    told._began = now - 100
    told.spent("loading", now - 90, now - 80)
    told.spent("evaluating", now - 80, now - 79)
    told.spent("evaluating", now - 70, now - 68)
    assert told.seconds == pytest.approx({"loading": 10, "evaluating": 3})


@pytest.mark.parametrize("name", ["mining", "", "x" * 32])
def test_unknown_names_share_one(name: str) -> None:
    told, now = Phases(), time.time()
    told._began = now - 10
    told.spent(name, now - 2, now - 1)
    assert told.seconds == pytest.approx({"other": 1})


@pytest.mark.parametrize(
    ("began", "ended", "most"),
    [(-1e18, 1e18, 10), (5, -5, 0), (1e18, 1e18, 0), (-1e18, -1e18, 0), (-3, 1e9, 3)],
)
def test_times_are_within_the_attempt(began: float, ended: float, most: float) -> None:
    told, now = Phases(), time.time()
    told._began = now - 10
    told.spent("loading", now + began, now + ended)
    assert told.seconds["loading"] == pytest.approx(most, abs=0.5)


def test_so_many_are_heard_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "MOST", 2)
    told, now = Phases(), time.time()
    told._began = now - 10
    for _ in range(5):
        told.spent("loading", now - 1, now)
    assert told.seconds == pytest.approx({"loading": 2})


def test_a_phase_that_is_cut_off_ends_with_the_process() -> None:
    told = Phases()
    told.enter("fine-tuning")
    time.sleep(0.02)
    told.cut_off()
    told.cut_off()
    assert 0.02 <= told.seconds["fine-tuning"] < 1


@pytest.mark.parametrize("name", [None, 7, ["loading"], {"a": 1}])
def test_a_phase_may_be_called_anything(name: object) -> None:
    told = Phases()
    told.enter(name)
    told.cut_off()
    assert set(told.seconds) == {"other"}
