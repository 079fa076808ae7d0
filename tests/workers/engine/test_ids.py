"""Union-find and id tensors."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.ids import Names, compact, spread, tidy, varying_axes


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_unite_is_the_smallest_equivalence(pairs: list[tuple[int, int]]) -> None:
    names = Names()
    ids = names.mint(20)
    if pairs:
        names.unite(*(np.array(side) for side in zip(*pairs, strict=True)))
    expected = list(range(20))
    for a, b in pairs:
        low, high = sorted((expected[a], expected[b]))
        expected = [low if root == high else root for root in expected]
    assert names.find(ids).tolist() == expected


def test_minting_outgrows_the_first_block() -> None:
    names = Names()
    names.mint(1000)
    more = names.mint(5000)
    names.unite(more, more[:1])
    assert set(names.find(more).tolist()) == {1000}


@given(st.permutations([2, 3, 4]), st.integers(0, 2))
def test_spread_costs_one_line(shape: list[int], axis: int) -> None:
    tensor = spread(np.arange(shape[axis]), tuple(shape), axis)
    assert varying_axes(tensor) == (axis,)
    assert compact(tensor).size == shape[axis]
    assert np.array_equal(tidy(np.array(tensor)), tensor)
    assert varying_axes(tidy(np.array(tensor))) == (axis,)
