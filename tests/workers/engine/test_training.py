"""Masks are held exactly through compiled training, and leave nothing behind."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import mlp, randomise
from workers.engine import apply, choose, constrain, masks_by_variable, unconstrain
from workers.engine.graph import kernels, values

SPEC = Prune.model_validate(
    {"granularity": "weight", "target": {"kind": "fraction", "remove": 0.6}}
)
PATTERNS = [
    Prune.model_validate({"granularity": "n_m"}),
    Prune.model_validate(
        {
            "granularity": {"kind": "block", "shape": [3, 2]},
            "target": {"kind": "fraction", "remove": 0.5},
        }
    ),
]
X = np.random.default_rng(0).standard_normal((96, 6)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.float32)


def build() -> Any:
    limit = keras.constraints.MaxNorm(0.5)
    return randomise(
        keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(12, activation="relu", kernel_constraint=limit),
                layers.Dense(1),
            ]
        )
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(0.05, weight_decay=0.1),
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    ],
)
def test_masks_hold_through_fit(optimizer: Any, tmp_path: Path) -> None:
    original = build()
    cut = choose(original, SPEC)
    model = apply(original, cut)
    masks = masks_by_variable(model, cut)
    model.compile(optimizer(), loss="mse")
    model.fit(X, Y, epochs=1, batch_size=32, verbose=0)  # momentum from before the mask
    constrain(model, masks)
    before = values(model.weights[0]).copy()
    model.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    for key, variable in kernels(model).items():
        assert np.array_equal(values(variable) != 0, masks[key])
    assert not np.array_equal(before, values(model.weights[0]))
    assert np.linalg.norm(values(model.weights[0]), axis=0).max() <= 0.5 + 1e-5

    unconstrain(model)
    constraints = [variable.constraint for variable in model.weights]
    assert isinstance(constraints[0], keras.constraints.MaxNorm)
    assert constraints[1:] == [None] * 3
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(values(loaded.weights[0]) != 0, masks[next(iter(masks))])


@pytest.mark.parametrize("spec", PATTERNS, ids=lambda spec: spec.granularity.kind)
def test_patterns_hold_through_fit(spec: Prune) -> None:
    original = build()
    cut = choose(original, spec)
    model = apply(original, cut)
    masks = masks_by_variable(model, cut)
    constrain(model, masks)
    before = values(model.weights[0]).copy()
    model.compile(keras.optimizers.Adam(0.05, weight_decay=0.1), loss="mse")
    model.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    assert not np.array_equal(before, values(model.weights[0]))
    for key, variable in kernels(model).items():
        assert not masks[key].all()
        assert np.array_equal(values(variable) != 0, masks[key])


def test_constraining_twice_keeps_the_inner_constraint() -> None:
    model = build()
    masks = masks_by_variable(model, choose(model, SPEC))
    constrain(model, masks)
    constrain(model, masks)
    unconstrain(model)
    assert isinstance(model.weights[0].constraint, keras.constraints.MaxNorm)


def test_foreign_masks_are_refused() -> None:
    model = build()
    cut = choose(model, SPEC)
    with pytest.raises(EngineRefusal, match="does not fit"):
        masks_by_variable(mlp(), cut)
    assert (
        masks_by_variable(model, choose(model, Prune.model_validate({"target": SPEC.target}))) == {}
    )
