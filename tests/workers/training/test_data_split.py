"""Holding out: complete, disjoint, deterministic, and the same share of every class."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidDataset
from workers.training.data_split import hold_out

SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32 - 1)


@given(labels=st.lists(st.integers(0, 6), min_size=2, max_size=120), share=SHARES, seed=SEEDS)
def test_every_sample_is_in_exactly_one_part(labels: list[int], share: float, seed: int) -> None:
    count = len(labels)
    for given_labels in (None, np.array(labels), np.array([str(label) for label in labels])):
        kept, held = hold_out(count, share, seed, given_labels)
        assert sorted([*kept, *held]) == list(range(count))
        assert len(held) == min(count - 1, max(1, round(count * share)))
        again = hold_out(count, share, seed, given_labels)
        np.testing.assert_array_equal(kept, again[0])
        np.testing.assert_array_equal(held, again[1])


@given(
    sizes=st.lists(st.integers(20, 80), min_size=1, max_size=6),
    share=st.floats(0.1, 0.9),
    seed=SEEDS,
)
def test_the_share_holds_in_every_class(sizes: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, held = hold_out(len(labels), share, seed, labels)
    counts = Counter(labels[held].tolist())
    for label, size in enumerate(sizes):
        # One for rounding within the class, and less than one for rounding the whole.
        assert abs(counts[label] - size * share) < 2


@pytest.mark.parametrize(
    ("labels", "share", "held"),
    [
        # 10 % of 30: one of each class.
        ([0] * 10 + [1] * 10 + [2] * 10, 0.1, {0: 1, 1: 1, 2: 1}),
        # 20 % of 10 is 2: shares 1.2, 0.6, 0.2; the second class has the largest fraction.
        ([0] * 6 + [1] * 3 + [2] * 1, 0.2, {0: 1, 1: 1}),
        # Equal fractions: the smaller labels first.
        ([0] * 5 + [1] * 5 + [2] * 5, 0.1, {0: 1, 1: 1}),
        # No class is used up while another can give.
        ([0] * 2 + [1] * 2 + [2] * 8, 0.75, {0: 1, 1: 1, 2: 7}),
    ],
)
def test_how_many_of_each_class(labels: list[int], share: float, held: dict[int, int]) -> None:
    found = np.array(labels)[hold_out(len(labels), share, 0, np.array(labels))[1]]
    assert Counter(found.tolist()) == held


def test_labels_that_occur_once_are_drawn_from_alike() -> None:
    labels = np.concatenate([np.arange(100), np.full(100, 500)])
    held = labels[hold_out(200, 0.2, 0, labels)[1]]
    assert Counter((held == 500).tolist()) == {True: 20, False: 20}


def test_seeds_differ() -> None:
    drawn = {tuple(hold_out(50, 0.2, seed)[1]) for seed in range(10)}
    assert len(drawn) == 10


def test_refuses_to_leave_nothing() -> None:
    with pytest.raises(InvalidDataset, match="at least 2 samples"):
        hold_out(1, 0.5, 0)
