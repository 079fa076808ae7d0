"""Union-find and axes: names move as `numpy` moves values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.ids import NOBODY, Axis, Names, joined, merged, named, repeated, tiled


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_unite_is_the_smallest_equivalence(pairs: list[tuple[int, int]]) -> None:
    names = Names()
    ids = names.mint(20)
    first = int(ids[0])
    if pairs:
        names.unite(*(np.array(side) + first for side in zip(*pairs, strict=True)))
    expected = list(range(20))
    for a, b in pairs:
        low, high = sorted((expected[a], expected[b]))
        expected = [low if root == high else root for root in expected]
    assert (names.find(ids) - first).tolist() == expected


def test_minting_outgrows_the_first_block() -> None:
    names = Names()
    names.mint(1000)
    more = names.mint(5000)
    names.unite(more, more[:1])
    assert set(names.find(more).tolist()) == {1001}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_merging_is_reshape(sizes: list[int]) -> None:
    """An index of the merged axis has the names that its indices had on the single axes."""
    names = Names()
    axes = [named((names.mint(size),)) for size in sizes]
    whole = merged(axes)
    assert whole.size == np.prod(sizes)
    for position, index in enumerate(np.ndindex(*sizes)):
        mine = {int(axis.lines[0][i]) for axis, i in zip(axes, index, strict=True)}
        assert {int(line[position]) for line in whole.lines} == mine


def test_what_is_joined_with_a_grid_has_nobody_on_its_second_line() -> None:
    names = Names()
    grid = merged([named((names.mint(2),)), named((names.mint(2),))])
    both = joined([grid, named((names.mint(3),)), Axis(1)])
    assert both.size == 8
    assert both.lines[1].tolist() == [*grid.lines[1].tolist(), *[NOBODY] * 4]


def test_repeat_and_tile_are_numpys() -> None:
    axis = named((np.array([3, 5]),))
    assert repeated(axis, 2).lines[0].tolist() == [3, 3, 5, 5]
    assert tiled(axis, 2).lines[0].tolist() == [3, 5, 3, 5]
    assert repeated(Axis(None), 2).size is None
    assert not Axis(4).take(np.array([1, 2])).named
