"""The dense control: as small as the pruned model, as long in training, and from scratch."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.metrics import Metrics, Plan
from tests.workers.engine.zoo import randomise
from tests.workers.orders import make_order
from workers.protocol import Reporter
from workers.run import run
from workers.training.control import NOTE, fresh

ITERATIVE = {"kind": "iterative", "steps": 3, "epochs_per_step": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    layers = [keras.layers.Dense(40, activation="relu"), keras.layers.BatchNormalization()]
    out = keras.layers.Dense(3, activation="softmax")
    randomise(keras.Sequential([keras.Input((8,)), *layers, out])).save(folder / "m.keras")
    np.savez(folder / "d.npz", x=x, y=x[:, :3].argmax(axis=1))
    return folder


def order(files: Path, folder: Path, prune: dict[str, Any], kind: str = "prune") -> Any:
    spec = {
        "dataset": "dts_1",
        "prune": prune,
        "schedule": ITERATIVE,
        "fine_tune": {"epochs": 3, "batch_size": 32, "early_stopping": None},
        "control": "dense",
    }
    return make_order(files / "m.keras", folder, spec, kind, files / "d.npz")


@pytest.mark.parametrize(
    ("prune", "most"),
    [
        ({"granularity": "unit", "target": {"kind": "macs", "keep": 0.5}}, 0.52),
        ({"granularity": "weight", "target": {"kind": "fraction", "remove": 0.7}}, 0.3),
        ({"granularity": "n_m"}, 0.5),
    ],
    ids=["units", "weights", "n_m"],
)
def test_as_small_and_as_long(
    files: Path, tmp_path: Path, prune: dict[str, Any], most: float
) -> None:
    result, _ = run(order(files, tmp_path, prune), Reporter(io.StringIO()))
    metrics = Metrics.model_validate(result)
    assert metrics.after.parameters <= most * metrics.before.parameters
    assert metrics.after.nonzero_parameters == metrics.after.parameters
    assert [one.epoch for one in metrics.history] == list(range(1, 8))  # 2 + 2 + 3.
    assert NOTE in metrics.notes
    losses = [one.logs["val_loss"] or 0.0 for one in metrics.history]
    assert losses[-1] < losses[0]
    foreseen, _ = run(order(files, tmp_path, prune, "plan"), Reporter(io.StringIO()))
    assert Plan.model_validate(foreseen).after.parameters == metrics.after.parameters


def test_weights_are_new_and_what_is_not_trained_stays() -> None:
    layers = [
        keras.layers.Normalization(mean=[1.0, 2.0], variance=[3.0, 4.0]),
        keras.layers.Dense(4),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3, trainable=False),
    ]
    old = randomise(keras.Sequential([keras.Input((2,)), *layers]))
    one, same, other = fresh(old, 1), fresh(old, 1), fresh(old, 2)
    for a, b, c, d in zip(old.weights, one.weights, same.weights, other.weights, strict=True):
        np.testing.assert_array_equal(b, c)
        stays = "batch" not in a.path and not a.trainable
        assert np.array_equal(a, b) == stays, a.path
        if a.path.endswith("kernel"):
            assert np.array_equal(b, d) == stays


def test_frozen_statistics_stay() -> None:
    frozen = keras.layers.BatchNormalization(trainable=False)
    old = randomise(keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), frozen]))
    for a, b in zip(old.layers[-1].weights, fresh(old, 1).layers[-1].weights, strict=True):
        np.testing.assert_array_equal(a, b)
