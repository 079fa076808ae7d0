"""The analysis of real models: every layer once, and a graph over exactly these."""

import itertools
from types import SimpleNamespace
from typing import Any

import keras
import pytest
from keras import layers

from app.domain.analysis import AnalysedLayer, ModelAnalysis
from app.domain.errors import EngineRefusal
from tests.workers.engine import zoo
from workers import engine
from workers.analysis import NAMED, look
from workers.report.analysis import page


def by_name(found: ModelAnalysis) -> dict[str, AnalysedLayer]:
    return {layer.name: layer for layer in found.layers}


def test_a_chain() -> None:
    model = zoo.mlp()
    found = look(model, "mdl_1")
    first, last = by_name(found)["dense_1"], by_name(found)["predictions"]
    assert (found.model, found.parameters) == ("mdl_1", model.count_params())
    assert found.macs == 20 * 30 + 30 * 10 + 10 * 4
    assert (first.units, first.prunable, first.frozen) == (30, 30, None)
    assert (first.output_shape, first.parameters, first.macs) == ((None, 30), 630, 600)
    assert last.prunable == 0
    assert last.frozen
    names = ["pixels", "dense_1", model.layers[1].name, "dense_2", "predictions"]
    assert [layer.name for layer in found.layers] == names
    assert found.edges == tuple(itertools.pairwise(names))


def test_branches_that_meet_are_coupled() -> None:
    i = keras.Input((4,), name="i")
    a, b = (layers.Dense(6, name=name)(i) for name in "ab")
    model = keras.Model(i, layers.Dense(2, name="out")(layers.Add(name="add")([a, b])))
    found = look(model, "m")
    assert by_name(found)["a"].coupled_with == ("b",)
    assert set(found.edges) == {
        ("i", "a"),
        ("i", "b"),
        ("a", "add"),
        ("b", "add"),
        ("add", "out"),
    }


def test_operations_between_layers_are_part_of_the_graph() -> None:
    i = keras.Input((4,), name="i")
    x = layers.Dense(6, name="dense")(i)
    model = keras.Model(i, layers.Dense(2, name="out")(x * 2.0))
    found = look(model, "m")
    assert {name for edge in found.edges for name in edge} == set(by_name(found))
    assert [layer.class_name for layer in found.layers][2] == "Multiply"


def test_a_shared_layer_is_one_layer() -> None:
    i = keras.Input((4,), name="i")
    shared = layers.Dense(4, name="shared")
    model = keras.Model(i, shared(layers.ReLU(name="relu")(shared(i))))
    found = look(model, "m")
    assert found.edges == (("i", "shared"), ("shared", "relu"), ("relu", "shared"))
    assert page(found).count("<svg xmlns") == 1


def test_attention_heads() -> None:
    i = keras.Input((5, 8))
    x = layers.MultiHeadAttention(2, 4, name="attention")(i, i)
    found = look(keras.Model(i, layers.Dense(2)(x)), "m")
    assert by_name(found)["attention"].heads == 2


def nested() -> Any:
    inner_input = keras.Input((4,), name="inner_input")
    inner = keras.Model(inner_input, layers.Dense(6, name="deep")(inner_input), name="inner")
    i = keras.Input((4,), name="i")
    return keras.Model(i, layers.Dense(2, name="out")(inner(i)))


def layer_analysis(name: str) -> engine.LayerAnalysis:
    return engine.LayerAnalysis(name, "Any", 1, 1, (), None, 0, 0)


@pytest.mark.parametrize(
    ("listed", "edges"),
    [
        (["i", "inner", "out"], {("i", "inner"), ("inner", "out")}),
        (
            ["i", "inner", "inner/inner_input", "inner/deep", "out"],
            {
                ("i", "inner"),
                ("inner", "inner/inner_input"),
                ("inner/inner_input", "inner/deep"),
                ("inner/deep", "out"),
            },
        ),
        (
            ["i", "inner/deep", "out"],
            {
                ("i", "inner"),
                ("inner", "inner/inner_input"),
                ("inner/inner_input", "inner/deep"),
                ("inner/deep", "out"),
            },
        ),
    ],
)
def test_a_nested_model_is_opened_where_the_engine_lists_its_layers(
    monkeypatch: pytest.MonkeyPatch, listed: list[str], edges: set[tuple[str, str]]
) -> None:
    analysed = SimpleNamespace(layers=[layer_analysis(name) for name in listed])
    monkeypatch.setattr(engine, "analyse", lambda _: analysed)
    found = look(nested(), "m")
    assert set(found.edges) == edges
    assert {name for edge in edges for name in edge} | set(listed) == set(by_name(found))
    assert len(found.layers) == len(by_name(found))


def test_long_lists_of_coupled_layers_are_cut_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(f"d{index}" for index in range(NAMED + 1))
    one = engine.LayerAnalysis("out", "Dense", 1, 1, many, None, 0, 0)
    monkeypatch.setattr(engine, "analyse", lambda _: SimpleNamespace(layers=[one]))
    found = look(nested(), "m")
    assert by_name(found)["out"].coupled_with == many[:NAMED]
    assert any(str(NAMED) in note for note in found.notes)


def test_a_model_without_anything_to_remove_says_so() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert "No unit can be removed" in look(model, "m").notes[0]


def test_a_model_without_a_graph_is_refused() -> None:
    with pytest.raises(EngineRefusal):
        look(keras.Sequential([layers.Dense(2)]), "m")


def test_the_page_shows_every_layer_and_runs_nothing() -> None:
    html = page(look(zoo.residual(), "m"))
    for layer in zoo.residual().layers:
        assert type(layer).__name__ in html
    assert "<script" not in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "{{" not in html
