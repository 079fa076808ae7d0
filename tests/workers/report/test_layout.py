"""Ranks, columns and lines, on graphs small enough to draw on paper."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.report.layout import Edge, Layout, lay_out


def laid(*lines: str) -> Layout:
    """Of chains such as "a b c", which has the edges a→b and b→c."""
    chains = [line.split() for line in lines]
    names = list(dict.fromkeys(name for chain in chains for name in chain))
    return lay_out(names, [edge for chain in chains for edge in itertools.pairwise(chain)])


def at(layout: Layout) -> dict[str, tuple[int, int]]:
    return {name: (place.rank, place.column) for name, place in layout.places.items()}


def kinds(layout: Layout) -> dict[Edge, str]:
    return {route.edge: route.kind for route in layout.routes}


def test_a_chain_is_one_column() -> None:
    assert at(laid("a b c")) == {"a": (0, 0), "b": (1, 0), "c": (2, 0)}


def test_a_skip_runs_beside_the_chain() -> None:
    layout = laid("a b c add d", "a add")
    assert at(layout)["add"] == (3, 0)
    assert kinds(layout)["a", "add"] == "track"
    assert layout.tracks == {0: 1}


def test_the_longest_branch_keeps_the_column() -> None:
    layout = laid("a short add", "a long_1 long_2 long_3 add")
    assert at(layout) == {
        "a": (0, 0),
        "long_1": (1, 0),
        "short": (1, 1),
        "long_2": (2, 0),
        "long_3": (3, 0),
        "add": (4, 0),
    }
    assert kinds(layout)["short", "add"] == "column", "its own column is free below it"


def test_nested_skips_have_tracks_of_their_own() -> None:
    layout = laid("a b c d e f", "b e", "a f")
    tracks = {route.edge: route.track for route in layout.routes if route.kind == "track"}
    assert tracks == {("b", "e"): 0, ("a", "f"): 1}


def test_skips_one_after_another_share_a_track() -> None:
    assert laid("a b c d e", "a c", "c e").tracks == {0: 1}


def test_an_input_stands_above_its_reader() -> None:
    assert at(laid("a b c d", "late d"))["late"] == (2, 1)


def test_a_layer_called_again_gets_a_line_back() -> None:
    layout = laid("a b c", "c b")
    assert at(layout) == {"a": (0, 0), "b": (1, 0), "c": (2, 0)}
    assert kinds(layout)["c", "b"] == "back"


def test_a_layer_that_reads_itself() -> None:
    assert kinds(laid("a b b c"))["b", "b"] == "back"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[Edge]]:
    names = [f"n{index}" for index in range(draw(st.integers(1, 12)))]
    pick = st.sampled_from(names)
    return names, draw(st.lists(st.tuples(pick, pick), max_size=30))


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_any_graph_is_laid_out(graph: tuple[list[str], list[Edge]]) -> None:
    names, edges = graph
    layout = lay_out(names, edges)
    assert set(layout.places) == set(names)
    assert len(set(layout.places.values())) == len(names), "two boxes in one place"
    assert {route.edge for route in layout.routes} == set(edges)
    for route in layout.routes:
        start, end = (layout.places[name] for name in route.edge)
        if route.kind != "back":
            assert start.rank < end.rank
        if route.kind == "column":
            passed = {(rank, route.column) for rank in range(start.rank + 1, end.rank)}
            assert not passed & set(at(layout).values()), "a line runs through a box"


@pytest.mark.parametrize("reach", [1, 8])
def test_a_thousand_boxes_take_no_second(reach: int) -> None:
    names = [f"n{index}" for index in range(1000)]
    edges = [(names[i], names[i + step]) for step in (1, reach) for i in range(1000 - step)]
    started = time.process_time()
    lay_out(names, edges)
    assert time.process_time() - started < 1
