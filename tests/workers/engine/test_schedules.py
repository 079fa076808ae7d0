"""Schedules rise to exactly one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.spec import IterativeSchedule, OneShotSchedule, PolynomialSchedule
from workers.engine import shares


def test_tables() -> None:
    assert shares(OneShotSchedule()) == (1.0,)
    assert shares(IterativeSchedule(steps=4)) == (0.25, 0.5, 0.75, 1.0)
    assert shares(PolynomialSchedule(steps=2, power=3.0)) == pytest.approx((0.875, 1.0))


@given(st.integers(1, 100), st.floats(0.1, 10))
def test_shares_rise_to_one(steps: int, power: float) -> None:
    for schedule in (
        IterativeSchedule(steps=steps),
        PolynomialSchedule(steps=steps, power=power),
    ):
        found = shares(schedule)
        assert len(found) == steps
        assert found[-1] == 1.0
        assert found[0] > 0
        assert list(found) == sorted(found)
