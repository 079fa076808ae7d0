"""What single layers bear: the metric without a share of each."""

from typing import Any

import keras
import numpy as np
import pytest

from app.domain.prune import Prune
from app.domain.spec import Sensitivity
from workers.evaluation.evaluate import evaluate
from workers.search.sensitivity import sensitivity
from workers.training.data import Data, Samples
from workers.training.objective import Objective, OutputObjective

CLASSES = Objective(
    (OutputObjective("out", "sparse_categorical_crossentropy", False, ("accuracy",)),), ()
)
HALF = {"kind": "fraction", "remove": 0.5}


def samples(count: int) -> Samples:
    x = np.random.default_rng(count).standard_normal((count, 4)).astype(np.float32)
    return Samples({"x": x}, (x.argmax(axis=1).astype(np.int32),), count)


DATA = Data(train=samples(40), validation=samples(300), test=samples(41))


def model() -> Any:
    """`needed` passes the inputs on; of `idle` half of the units are zero; both meet in an Add."""
    i = keras.Input((4,), name="x")
    needed = keras.layers.Dense(8, name="needed")(i)
    idle = keras.layers.Dense(8, name="idle")(i)
    wide = keras.layers.Dense(16, name="wide")(keras.layers.Add(name="sum")([needed, idle]))
    out = keras.layers.Dense(4, activation="softmax", name="out")
    made = keras.Model(i, out(wide))
    eye = np.eye(8, dtype=np.float32)
    made.get_layer("needed").set_weights([5 * eye[:4], np.zeros(8)])
    made.get_layer("idle").set_weights([np.zeros((4, 8)), np.zeros(8)])
    made.get_layer("wide").set_weights([np.eye(8, 16), np.zeros(16)])
    made.get_layer("out").set_weights([np.eye(16, 4), np.zeros(4)])
    return made


def look(prune: dict[str, Any], **asked: Any) -> Any:
    spec = Sensitivity.model_validate({"shares": [0.5, 0.9]} | asked)
    return sensitivity(model(), Prune.model_validate(prune), spec, DATA, CLASSES, 0)


def test_layers_that_meet_are_cut_together_and_what_is_idle_may_go() -> None:
    found = look({"granularity": "channel", "target": HALF})
    assert found.metric == "accuracy"
    assert found.samples == 300
    assert found.whole == evaluate(model(), DATA.validation, CLASSES)["accuracy"].value == 1.0
    rows = {row.layers: row.values for row in found.layers}
    assert list(rows) == [("idle", "needed"), ("wide",)]
    # Four of eight, then seven; twelve of sixteen are idle in `wide`.
    assert rows["idle", "needed"][0] == 1.0
    assert rows["idle", "needed"][1] < 0.6
    assert rows["wide",][0] == 1.0


@pytest.mark.parametrize("criterion", ["magnitude", "threshold", "random"])
def test_single_weights(criterion: str) -> None:
    target = None if criterion == "threshold" else HALF
    found = look({"granularity": "weight", "criterion": criterion, "target": target})
    assert {row.layers for row in found.layers} == {("needed",), ("idle",), ("wide",), ("out",)}
    if criterion == "magnitude":
        assert {row.values[0] for row in found.layers} == {1.0}


def test_skipped_layers_and_small_ones_are_left_out() -> None:
    skip = [{"match": "wi*", "skip": True}]
    found = look({"granularity": "weight", "target": HALF, "layers": skip}, layers=2)
    assert "wide" not in {name for row in found.layers for name in row.layers}
    assert len(found.layers) == 2


def test_what_limits_hold_is_not_called_a_share() -> None:
    found = look({"granularity": "channel", "target": HALF, "min_units": 4})
    rows = {row.layers: row.values for row in found.layers}
    assert rows["idle", "needed"][0] is not None
    assert rows["idle", "needed"][1] is None


def test_names_that_look_like_patterns() -> None:
    i = keras.Input((4,), name="x")
    x = keras.layers.Dense(8, name="fc[1]")(i)
    x = keras.layers.Dense(8, name="fc1")(x)
    odd = keras.Model(i, keras.layers.Dense(4, activation="softmax")(x))
    prune = Prune.model_validate({"granularity": "channel", "target": HALF})
    found = sensitivity(odd, prune, Sensitivity(shares=(0.5,)), DATA, CLASSES, 0)
    assert [row.layers for row in found.layers] == [("fc[1]",), ("fc1",)]
    assert all(row.values[0] is not None for row in found.layers)


def test_the_model_stays_as_it_is() -> None:
    one = model()
    before = one.get_weights()
    spec = Sensitivity(samples=50)
    prune = Prune.model_validate({"granularity": "channel", "target": HALF})
    assert sensitivity(one, prune, spec, DATA, CLASSES, 0).samples == 50
    for a, b in zip(before, one.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
