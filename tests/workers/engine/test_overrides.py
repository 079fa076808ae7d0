"""A share given to a layer means the units that it makes; the notes say who decided."""

from typing import Any

import keras
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, randomise


@pytest.fixture(scope="module")
def model() -> Any:
    """Two convolutions coupled by Add, a separable one that reads them, a depthwise one."""
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(8, 3, padding="same", name="c1")(inputs)
    second = layers.Conv2D(8, 3, padding="same", name="c2")(layers.ReLU()(first))
    both = layers.Add()([first, second])
    deep = layers.DepthwiseConv2D(3, name="dw")(both)
    apart = layers.SeparableConv2D(6, 3, name="sep")(deep)
    flat = layers.GlobalAveragePooling2D()(apart)
    outputs = layers.Dense(4, activation="softmax", name="out")(flat)
    return randomise(keras.Model(inputs, outputs))


def cut(model: Any, *overrides: dict[str, Any], remove: float = 0.25) -> dict[str, tuple]:
    spec = {"target": {"kind": "fraction", "remove": remove}, "layers": list(overrides)}
    found = cut_units(model, Prune.model_validate(spec))
    return {one.name: (one.removed, one.note) for one in found.summary}


def test_a_separable_layers_share_is_its_own(model: Any) -> None:
    found = cut(model, {"match": "sep", "remove": 0.9})
    assert (found["c1"], found["c2"], found["sep"]) == ((2, None), (2, None), (5, None))


def test_its_limit_too(model: Any) -> None:
    found = cut(model, {"match": "sep", "max_remove": 0.1}, remove=0.5)
    assert found["c1"] == (4, None)
    assert found["sep"] == (0, "held at the max_remove of 0.1 of sep")


def test_a_layer_without_units_of_its_own_speaks_for_those_it_passes_on(model: Any) -> None:
    removed, note = cut(model, {"match": "dw", "remove": 0.75})["c1"]
    assert removed == 6
    assert note == "coupled with dw, whose remove of 0.75 holds"


def test_of_coupled_layers_the_smallest_share_holds_and_is_named(model: Any) -> None:
    found = cut(model, {"match": "c1", "remove": 0.25}, {"match": "c2", "remove": 0.75})
    assert found["c1"] == (2, None)
    assert found["c2"] == (2, "coupled with c1, whose remove of 0.25 holds")


def test_a_share_without_effect_is_said(model: Any) -> None:
    assert "has no effect" in cut(model, {"match": "out", "remove": 0.5})["out"][1]
    assert cut(model, remove=0.01)["c1"] == (0, "a share this small of 8 rounds to none")


def test_a_refusal_names_the_layer_that_is_not_understood() -> None:
    i = keras.Input((6, 6, 3))
    x = layers.RandomContrast(0.1, name="inner")(layers.Conv2D(4, 1)(i))
    with pytest.raises(EngineRefusal, match="inner prepares images"):
        cut(keras.Model(i, x))
