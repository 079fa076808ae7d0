"""The one exact rule: counts, ties, limits. Golden values: DESIGN §4."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workers.engine.criteria import l2_norm, magnitude
from workers.engine.masks import limited, most, removal_count, smallest

W = np.array([[6, 3, 9], [1, 5, 7], [4, 8, 2]], dtype=np.float32)


@pytest.mark.parametrize(
    ("share", "zeros"),
    [(0.34, [3, 1, 2]), (0.5, [3, 1, 4, 2]), (0.1, [1]), (0.01, [])],
)
def test_smallest_weights_go_first(share: float, zeros: list[int]) -> None:
    gone = smallest(magnitude(W), removal_count(share, W.size))
    assert W[gone].tolist() == zeros


def test_smallest_column_goes_first() -> None:
    gone = smallest(l2_norm(W), removal_count(0.33, 3))
    assert np.where(gone, 0, W).tolist() == [[0, 3, 9], [0, 5, 7], [0, 8, 2]]


@pytest.mark.parametrize(
    ("share", "entries", "count"), [(0.5, 5, 2), (0.5, 7, 4), (0.25, 10, 2), (0.9, 300, 270)]
)
def test_counts_round_halves_to_even(share: float, entries: int, count: int) -> None:
    assert removal_count(share, entries) == count


@pytest.mark.parametrize(
    ("kept", "entries", "at_least", "round_to", "stays"),
    [
        (0, 10, 1, None, 1),
        (3, 10, 5, None, 5),
        (0, 2, 5, None, 2),
        (11, 64, 1, 8, 8),
        (12, 64, 1, 8, 16),
        (1, 64, 1, 8, 8),
        (7, 10, 1, 8, 8),
        (10, 12, 9, 8, 12),
        (3, 6, 1, 8, 6),
        (9, 64, 9, 8, 16),
    ],
)
def test_limits(kept: int, entries: int, at_least: int, round_to: int | None, stays: int) -> None:
    assert limited(kept, entries, at_least, round_to) == stays


@pytest.mark.parametrize(("share", "entries", "count"), [(0.29, 100, 29), (0.5, 5, 2)])
def test_max_remove_rounds_down(share: float, entries: int, count: int) -> None:
    assert most(share, entries) == count


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
        elements=st.integers(0, 4).map(float),
    ),
    st.data(),
)
def test_the_law_of_smallest(saliency: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, saliency.size))
    gone = smallest(saliency, count)
    assert gone.shape == saliency.shape
    assert np.flatnonzero(gone).tolist() == sorted(
        np.argsort(saliency, axis=None, kind="stable")[:count].tolist()
    )


def test_more_removes_what_less_removed() -> None:
    saliency = np.random.default_rng(0).integers(0, 5, 40).astype(float)
    for count in range(40):
        assert not (smallest(saliency, count) & ~smallest(saliency, count + 1)).any()
