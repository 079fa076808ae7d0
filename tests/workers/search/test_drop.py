"""Halving towards the smallest model that is good enough."""

import pytest

from workers.search.drop import CLOSE, Budget, Tried, next_share


def searched(edge: float, smallest: float, most: int = 50) -> list[Tried]:
    """All tries against a model that is good enough from `edge` on."""
    tried: list[Tried] = []
    while len(tried) < most:
        share = next_share(tried, smallest)
        if share is None:
            break
        tried.append(Tried(share, share >= edge))
    return tried


def test_the_first_is_the_middle_of_the_scale() -> None:
    assert next_share([], 0.01) == pytest.approx(0.1)


@pytest.mark.parametrize("edge", [0.9, 0.3, 0.05, 0.021])
def test_it_ends_close_above_the_edge(edge: float) -> None:
    best = min(each.keep for each in searched(edge, 0.02) if each.fits)
    assert edge <= best <= edge * CLOSE


def test_eight_tries_leave_little_in_between() -> None:
    best = min(each.keep for each in searched(0.06, 0.02, most=6) if each.fits)
    assert best < 0.06 * 1.1


def test_where_nothing_fits_it_ends_too() -> None:
    tried = searched(2.0, 0.02)
    assert not any(each.fits for each in tried)
    assert len(tried) < 12


def test_what_failed_above_a_good_one_is_noise() -> None:
    """0.5 failed, 0.3 was good: the search goes on below 0.3."""
    tried = [Tried(0.5, False), Tried(0.3, True)]
    share = next_share(tried, 0.02)
    assert share is not None
    assert 0.02 < share < 0.3


def test_the_budget_counts_the_longest_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("workers.search.drop.time.monotonic", lambda: now[0])
    budget = Budget(1.0)
    assert budget.allows_another()
    with budget.one():
        now[0] = 25.0
    assert budget.allows_another()
    with budget.one():
        now[0] = 40.0
    assert not budget.allows_another()
    assert Budget(None).allows_another()
