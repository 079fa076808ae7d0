"""Patterns of masks: golden values checked by hand, and the laws of n:m and of blocks."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workers.engine.patterns import Blocks, Matrix, going, n_of_m

# One matrix of 5 inputs by 2 outputs: with m = 4 a run of 4 and one of 1 down each column.
S = np.array([[[4, 1], [3, 1], [2, 1], [1, 1], [9, 0]]], dtype=np.float32)

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 2), st.integers(1, 11), st.integers(1, 3)),
    elements=st.integers(0, 4).map(float),
)
PATTERNS = st.integers(2, 6).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))


def test_two_of_four_stay_and_the_lower_index_goes_first() -> None:
    assert n_of_m(S, 2, 4)[0].astype(int).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [0, 0]]


def test_one_of_three_stays_and_one_of_a_last_run_of_two() -> None:
    assert n_of_m(S, 1, 3)[0].astype(int).tolist() == [[0, 1], [1, 1], [1, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("length", "n", "m", "share", "max_remove", "count"),
    [
        (4, 2, 4, 1.0, None, 2),
        (4, 2, 4, 0.5, None, 1),
        (4, 2, 4, 0.49, None, 0),  # 0.98 of a weight: rounded down
        (3, 2, 4, 1.0, None, 1),  # ceil(3 * 2 / 4) = 2 stay
        (1, 2, 4, 1.0, None, 0),
        (10, 1, 10, 0.7, None, 6),  # 6.3
        (10, 3, 10, 1.0, None, 7),  # 1 * 0.7 * 10 is 7 in spite of floats
        (4, 1, 4, 1.0, 0.5, 2),
        (4, 1, 4, 1.0, 0.2, 0),
    ],
)
def test_how_many_of_a_run_go(
    length: int, n: int, m: int, share: float, max_remove: float | None, count: int
) -> None:
    assert going(length, n, m, share, max_remove) == count


@given(MATRICES, PATTERNS)
def test_every_run_keeps_exactly_its_best(saliency: Any, pattern: tuple[int, int]) -> None:
    n, m = pattern
    gone = n_of_m(saliency, n, m)
    for start in range(0, saliency.shape[1], m):
        run, out = saliency[:, start : start + m], gone[:, start : start + m]
        r = run.shape[1]
        assert ((~out).sum(axis=1) == -(-r * n // m)).all()
        assert ((~out).sum(axis=1) <= n).all()
        largest_out = np.where(out, run, -1).max(axis=1)
        assert (largest_out <= np.where(out, 9, run).min(axis=1)).all()


@given(MATRICES, PATTERNS, st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4).map(sorted))
def test_steps_of_n_m_are_nested(
    saliency: Any, pattern: tuple[int, int], shares: list[float]
) -> None:
    masks = [n_of_m(saliency, *pattern, share) for share in shares]
    for earlier, later in pairwise(masks):
        assert not (earlier & ~later).any()


def test_blocks_are_cut_from_the_corner_and_edges_are_smaller() -> None:
    kernel = np.array([[1, 1, 6], [3, 3, 6], [5, 7, 2]], dtype=np.float32)
    blocks = Blocks(Matrix((3, 3), (0,), (1,)), (2, 2))
    assert blocks.sums(kernel)[0].tolist() == [[8, 12], [12, 2]]
    assert blocks.means(kernel)[0].tolist() == [[2, 6], [6, 2]]
    gone = blocks.spread(np.array([[[True, False], [False, True]]]))
    assert gone.astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_positions_of_a_window_have_matrices_of_their_own() -> None:
    kernel = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)  # a window of 2
    matrix = Matrix(kernel.shape, (1,), (2,))
    assert np.array_equal(matrix.fold(kernel), kernel)
    assert Blocks(matrix, (4, 4)).means(kernel).tolist() == [[[2.5]], [[8.5]]]


SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    shape = draw(SHAPES)
    axes = draw(st.permutations(range(len(shape))))
    inputs = draw(st.integers(1, len(axes) - 1))
    outputs = draw(st.integers(1, len(axes) - inputs))
    return Matrix(shape, tuple(axes[:inputs]), tuple(axes[inputs : inputs + outputs]))


@given(matrices())
def test_folding_is_undone_by_unfolding(matrix: Matrix) -> None:
    kernel = np.arange(np.prod(matrix.shape)).reshape(matrix.shape)
    assert matrix.fold(kernel).shape[1:] == matrix.sides
    assert np.array_equal(matrix.unfold(matrix.fold(kernel)), kernel)


@given(matrices(), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.data())
def test_blocks_go_as_a_whole_or_not_at_all(
    matrix: Matrix, shape: tuple[int, int], data: st.DataObject
) -> None:
    blocks = Blocks(matrix, shape)
    sizes = blocks.sums(np.ones(matrix.shape))
    chosen = data.draw(hnp.arrays(np.bool_, sizes.shape))
    gone = blocks.spread(chosen)
    assert gone.shape == matrix.shape
    assert np.array_equal(blocks.sums(gone), np.where(chosen, sizes, 0))
