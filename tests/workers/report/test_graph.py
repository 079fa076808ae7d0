"""The drawing is well-formed, shows every layer, and escapes what uploaders wrote."""

import itertools
import re
import time
from typing import Any
from xml.etree import ElementTree

import pytest

from app.domain.analysis import AnalysedLayer
from workers.report.graph import FOLD_ABOVE, MOST_BOXES, draw

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = """</title></svg><script>alert("1" & '2')</script>\x00\x1b\ud800]]>"""


def layer(name: str, class_name: str = "Dense", **more: Any) -> AnalysedLayer:
    return AnalysedLayer.model_validate({"name": name, "class": class_name} | more)


def parsed(text: str) -> ElementTree.Element:
    """Raises when it is not well-formed."""
    return ElementTree.fromstring(text.encode())


def boxes(text: str) -> dict[str, tuple[str, str]]:
    """First line of a box's title → its classes, and all its text."""
    return {
        group[0].text.splitlines()[0].split(" (")[0]: (
            group.attrib["class"],
            " | ".join(t.text or "" for t in group.iter(f"{SVG}text")),
        )
        for group in parsed(text).iter(f"{SVG}g")
    }


def chain(count: int, **more: Any) -> tuple[list[AnalysedLayer], list[tuple[str, str]]]:
    """Dense layers, each followed by a ReLU."""
    layers = [
        one
        for index in range(count)
        for one in (
            layer(f"dense_{index}", units=8, macs=64, **more),
            layer(f"relu_{index}", "ReLU"),
        )
    ]
    names = [one.name for one in layers]
    return layers, list(itertools.pairwise(names))


def test_what_a_box_says() -> None:
    layers = [
        layer("pixels", "InputLayer"),
        layer("hidden", units=64, prunable=64),
        layer("attention", "MultiHeadAttention", heads=8),
        layer("out", units=10, frozen="the model's output"),
    ]
    edges = [("pixels", "hidden"), ("hidden", "attention"), ("attention", "out")]
    drawn = draw(layers, edges, {"hidden": (64, 32), "out": (10, 10)})
    assert boxes(drawn) == {
        "pixels": ("box plain", "pixels | InputLayer"),
        "hidden": ("box alone", "hidden | Dense | 64 → 32 units"),
        "attention": ("box plain", "attention | MultiHeadAttention | 8 heads"),
        "out": ("box frozen", "out | Dense | 10 units"),
    }
    assert "stays: the model&#x27;s output" in drawn
    assert len(re.findall(r'<path class="edge"', drawn)) == 3


def test_layers_that_lose_units_together_share_a_colour() -> None:
    layers = [
        layer("a", units=4, prunable=4, coupled_with=["b"]),
        layer("b", units=4, prunable=4, coupled_with=["a", "c"]),
        layer("c", units=4, prunable=4, coupled_with=["b"]),
        layer("d", units=4, prunable=4, coupled_with=["e"]),
        layer("e", units=4, prunable=4, coupled_with=["d"]),
        layer("f", units=4, prunable=4),
    ]
    groups = parsed(draw(layers, [], {})).findall(f"{SVG}g")
    a, b, c, d, e, f = (group.attrib.get("style") for group in groups)
    assert a == b == c != d == e
    assert a is not None
    assert d is not None
    assert f is None


def test_names_are_escaped() -> None:
    drawn = draw([layer(HOSTILE, HOSTILE, frozen=HOSTILE)], [(HOSTILE, "after")], {})
    assert "<script" not in drawn
    assert drawn.isprintable() or "\n" in drawn
    assert set(boxes(drawn)) >= {"after"}
    assert "alert(&quot;1&quot; &amp; &#x27;2&#x27;)" in drawn


def test_an_edge_may_name_what_is_no_layer() -> None:
    assert boxes(draw([layer("a")], [("a", "add"), ("add", "a")], {}))["add"][0] == "box plain"


def test_a_small_graph_shows_every_layer_in_a_box() -> None:
    layers, edges = chain(FOLD_ABOVE // 2)
    assert set(boxes(draw(layers, edges, {}))) == {one.name for one in layers}


def test_a_large_graph_folds_what_multiplies_nothing_into_the_layer_before() -> None:
    layers, edges = chain(FOLD_ABOVE)
    drawn = draw(layers, edges, {})
    assert boxes(drawn)["dense_3"][1] == "dense_3 | Dense | 8 units | + ReLU"
    assert len(boxes(drawn)) == FOLD_ABOVE
    for one in layers:
        assert one.name in drawn


def test_what_is_frozen_or_meets_others_is_not_folded() -> None:
    layers, edges = chain(FOLD_ABOVE)
    layers += [layer("odd", "Odd", frozen="not understood"), layer("add", "Add")]
    edges += [("relu_39", "odd"), ("odd", "add"), ("relu_3", "add")]
    shown = set(boxes(draw(layers, edges, {})))
    assert {"odd", "add"} <= shown
    assert "relu_3" in drawn_titles(layers, edges)


def drawn_titles(layers: list[AnalysedLayer], edges: list[tuple[str, str]]) -> str:
    return " ".join(t.text or "" for t in parsed(draw(layers, edges, {})).iter(f"{SVG}title"))


@pytest.mark.parametrize("chains", [150, 500])
def test_many_layers_are_drawn_quickly(chains: int) -> None:
    layers, edges = chain(chains, coupled_with=[f"dense_{i}" for i in range(64)])
    started = time.process_time()
    parsed(draw(layers, edges, {}))
    assert time.process_time() - started < 2


def test_a_circle_is_drawn() -> None:
    names = [f"r{index}" for index in range(FOLD_ABOVE + 1)]
    layers = [layer(name, "ReLU") for name in names]
    drawn = draw(layers, list(zip(names, [*names[1:], names[0]], strict=True)), {})
    assert boxes(drawn)


def test_what_nobody_could_read_is_not_drawn() -> None:
    drawn = draw([layer(f"d{i}", units=1) for i in range(MOST_BOXES + 1)], [], {})
    assert parsed(drawn).tag == "p"
    assert f"{MOST_BOXES + 1:,} layers" in drawn
