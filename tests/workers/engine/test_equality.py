"""The proof fails where it has to, and restores what it touched."""

from typing import Any

import keras
import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, lenet, mlp, randomise
from workers.engine import UnitCut, apply, choose, prove
from workers.engine.equality import Equality

HALF = Prune.model_validate({"target": {"kind": "fraction", "remove": 0.5}})


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(lenet())


@pytest.mark.parametrize("granularity", ["channel", "weight"])
def test_a_wrong_weight_is_noticed(model: Any, granularity: str) -> None:
    spec = {"granularity": granularity, "target": {"kind": "fraction", "remove": 0.5}}
    cut = choose(model, Prune.model_validate(spec))
    reduced = apply(model, cut)
    reduced.weights[0].assign(reduced.weights[0] + 0.5)
    before = model.get_weights()
    assert not prove(model, reduced, cut).holds
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_original_is_restored_when_the_reduced_model_fails(model: Any) -> None:
    cut = choose(model, HALF)
    before = model.get_weights()
    with pytest.raises(ValueError, match="incompatible"):
        prove(model, randomise(mlp()), cut)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_cut_of_another_model_is_refused(model: Any) -> None:
    cut = choose(model, HALF)
    with pytest.raises(EngineRefusal, match="does not fit"):
        apply(randomise(mlp()), cut)


def test_half_a_unit_is_refused(model: Any) -> None:
    cut = cut_units(model, HALF)
    name = model.layers[-1].name
    with pytest.raises(EngineRefusal, match="does not fit"):
        apply(model, UnitCut({name: np.array([0])}, (), cut.progress))


def test_zero_outputs_are_equal_and_nan_is_not() -> None:
    assert Equality(0.0, 0.0, 4).holds
    assert Equality(0.0, 0.0, 4).relative == 0.0
    assert not Equality(1e-3, 0.0, 4).holds
    assert not Equality(float("nan"), 1.0, 4).holds


def test_trainable_flags_dtypes_and_state_are_kept() -> None:
    i = keras.Input((4,))
    x = keras.layers.Dense(8, dtype="float64", name="wide")(i)
    x = keras.layers.BatchNormalization(name="norm", trainable=False)(x)
    model = randomise(keras.Model(i, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(x))))
    model.get_layer("wide").trainable = False
    cut = cut_units(model, HALF)
    reduced = apply(model, cut)
    assert [v.trainable for v in reduced.variables] == [v.trainable for v in model.variables]
    assert [v.dtype for v in reduced.variables] == [v.dtype for v in model.variables]
    kept = np.setdiff1d(np.arange(8), cut.removed["wide"])
    moving = [np.array(m.get_layer("norm").moving_mean) for m in (model, reduced)]
    assert np.array_equal(moving[0][kept], moving[1])
