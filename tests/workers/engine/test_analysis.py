"""What is known of a model: what belongs together, what stays and why, what it costs."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine import zoo
from workers.engine import analyse, apply, choose, count, prove
from workers.engine.rules import REASONS, RULES

HALF = Prune.model_validate({"target": {"kind": "fraction", "remove": 0.5}})


def reasons(model: Any) -> dict[str, str | None]:
    return {layer.name: layer.frozen for layer in analyse(model).layers}


def test_input_output_and_softmax_stay() -> None:
    found = {layer.name: layer for layer in analyse(zoo.mlp()).layers}
    assert (found["dense_1"].units, found["dense_1"].prunable) == (30, 30)
    assert (found["predictions"].units, found["predictions"].prunable) == (4, 0)
    assert "softmax" in (found["predictions"].frozen or "")
    assert found["dense_1"].parameters == 630
    assert found["dense_1"].macs == 600


def test_residual_layers_are_coupled() -> None:
    layers_found = [x for x in analyse(zoo.residual()).layers if x.class_name == "Conv2D"]
    coupled = [len(layer.coupled_with) for layer in layers_found]
    assert sorted(coupled) == [0, 0, 1, 1, 1, 1]


def test_what_is_not_understood_stays_with_its_reason() -> None:
    i = keras.Input((8, 8, 3))
    x = layers.RandomFlip(name="flip")(layers.Conv2D(4, 3, name="made")(i))
    model = keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))
    found = reasons(model)
    assert found["made"] == found["flip"]
    assert (found["flip"] or "").startswith("flip prepares images")
    with pytest.raises(EngineRefusal, match="flip prepares images"):
        choose(model, HALF)


def test_every_layer_of_keras_has_a_rule_or_a_reason() -> None:
    known = {
        name
        for name in dir(keras.layers)
        if isinstance(cls := getattr(keras.layers, name), type)
        and issubclass(cls, keras.layers.Layer)
        and cls in RULES
    }
    every = {
        name
        for name in dir(keras.layers)
        if isinstance(cls := getattr(keras.layers, name), type)
        and issubclass(cls, keras.layers.Layer)
    }
    assert every - known == set()
    assert all(reason and not reason.endswith(".") for reason in REASONS.values())


def test_channels_of_a_mixer_go_though_tokens_are_mixed() -> None:
    """Dense layers along both axes: each axis has units of its own."""
    i = keras.Input((4, 3))
    x = layers.Permute((2, 1))(layers.Conv1D(6, 1, name="made")(i))
    x = layers.Dense(8, name="tokens")(x)
    model = zoo.randomise(keras.Model(i, layers.Dense(2)(layers.Flatten()(x))))
    cut = zoo.cut_units(model, HALF)
    assert {name: gone.size for name, gone in cut.removed.items()} == {"made": 3, "tokens": 4}
    assert apply(model, cut).get_layer("tokens").output.shape == (None, 3, 4)


def test_reshape_of_units_stays_a_grid() -> None:
    i = keras.Input((3,))
    x = layers.Dense(12, name="made")(i)
    x = layers.Conv1D(2, 1)(layers.Reshape((3, 4), name="grid")(x))
    model = zoo.randomise(keras.Model(i, x))
    cut = zoo.cut_units(model, HALF)
    assert cut.removed["made"].size == 6
    assert apply(model, cut).get_layer("grid").target_shape == (3, 2)


def test_units_that_become_positions_stay() -> None:
    i = keras.Input((3,))
    x = layers.Reshape((12, 1))(layers.Dense(12, name="made")(i))
    model = keras.Model(i, layers.Conv1D(2, 3, name="reader")(x))
    assert reasons(model)["made"] == "its units are positions, not channels, to reader"


def test_pruned_positions_would_change_a_concatenation_along_time() -> None:
    i = keras.Input((None, 3))
    parts = [layers.Conv1D(4, 1)(i), layers.Conv1D(4, 1)(i)]
    x = layers.Concatenate(axis=1)(parts)
    model = zoo.randomise(keras.Model(i, layers.Conv1D(2, 1)(x)))
    cut = zoo.cut_units(model, HALF)
    first, second = cut.removed.values()
    assert np.array_equal(first, second)
    assert prove(model, apply(model, cut), cut).holds


def test_variable_length_meeting_channels_freezes_both() -> None:
    i, j = keras.Input((5,)), keras.Input((None, 1))
    a = layers.Permute((2, 1))(layers.RepeatVector(1)(layers.Dense(8, name="a")(i)))
    model = keras.Model([i, j], layers.Add()([a, layers.Conv1D(1, 1, name="b")(j)]))
    assert analyse(model).groups == ()


def test_gate_over_reshaped_units() -> None:
    """Found by random graphs: the units change along all axes that the gate broadcasts over."""
    i = keras.Input((3,))
    x = layers.Reshape((2, 2, 6))(layers.Dense(24, name="made")(i))
    gate = layers.Dense(6, activation="sigmoid", name="gate")(layers.GlobalMaxPooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(gate)])
    model = zoo.randomise(keras.Model(i, layers.Conv2D(2, 2)(x)))
    cut = zoo.cut_units(model, HALF)
    assert {name: gone.size for name, gone in cut.removed.items()} == {"made": 12, "gate": 3}
    assert prove(model, apply(model, cut), cut).holds


def test_shared_layer_on_two_different_paths() -> None:
    i = keras.Input((6,))
    shared = layers.Dense(8, name="shared")
    a, b = layers.Dense(6, name="a")(i), layers.Dense(6, name="b")(i)
    model = zoo.randomise(keras.Model(i, layers.Dense(1)(layers.Add()([shared(a), shared(b)]))))
    found = {layer.name: layer.coupled_with for layer in analyse(model).layers}
    assert found["a"] == ("b",)
    assert found["shared"] == ()


def test_recursion_through_a_shared_layer() -> None:
    i = keras.Input((6,))
    shared = layers.Dense(6, name="shared", activation="relu")
    x = shared(shared(layers.Dense(6, name="first")(i)))
    model = zoo.randomise(keras.Model(i, layers.Dense(1)(x)))
    cut = zoo.cut_units(model, HALF)
    assert np.array_equal(cut.removed["first"], cut.removed["shared"])
    assert prove(model, apply(model, cut), cut).holds


def test_channels_first() -> None:
    i = keras.Input((3, 8, 8))
    options = {"data_format": "channels_first"}
    x = layers.Conv2D(6, 3, **options)(i)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.MaxPooling2D(2, **options)(x)
    model = zoo.randomise(keras.Model(i, layers.Dense(2)(layers.Flatten(**options)(x))))
    reduced = apply(model, choose(model, HALF))
    assert count(reduced).by_name[model.layers[1].name].output_shape == (None, 3, 6, 6)
    assert reduced.layers[-1].get_weights()[0].shape == (27, 2)


def test_macs_by_hand() -> None:
    counts = count(zoo.lenet())
    convolutions = 144 * 9 * 6 + 16 * 54 * 16
    assert counts.macs == convolutions + 64 * 20 + 20 * 10
    assert counts.macs_exact
    assert counts.parameters == zoo.lenet().count_params()


def test_unknown_lengths_count_once_and_say_so() -> None:
    counts = count(zoo.variable_length())
    assert not counts.macs_exact
    assert counts.macs == 3 * 4 * 8 + 3 * 8 + 3 * 8 * 6 + 6 * 2


def subclassed() -> Any:
    return type("Subclassed", (keras.Model,), {"call": lambda self, x: x})()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (subclassed, "subclass"),
        (lambda: keras.Sequential([layers.Dense(2)]), "not built"),
        (lambda: layers.Dense(2), "Expected a Keras model"),
        (
            lambda: keras.Sequential([keras.Input((2,)), layers.Lambda(abs), layers.Dense(2)]),
            "Lambda",
        ),
    ],
)
def test_models_without_a_graph_are_refused(model: Any, reason: str) -> None:
    for use in (analyse, count, lambda m: choose(m, HALF)):
        with pytest.raises(EngineRefusal, match=reason):
            use(model())


def test_rules_are_read_only_and_by_class() -> None:
    with pytest.raises(TypeError):
        RULES[keras.layers.Lambda] = RULES[keras.layers.Dense]  # type: ignore[index]
    assert all(issubclass(kind, keras.Operation) for kind in RULES)
