"""Loss and metrics as asked, as compiled, as the output tells."""

import keras
import numpy as np
import pytest

from app.domain.errors import InvalidSpec
from app.domain.model import TrainingInfo
from app.domain.spec import PruningSpec
from workers.training.objective import Objective, infer

LABELS = np.array([0, 1, 2], np.int32)
BITS = np.array([[0], [1], [1]], np.int32)
ONE_HOT = np.eye(3, dtype=np.float32)
VALUES = np.array([[0.5], [1.5], [2.5]], np.float32)


def settle(
    units: int,
    activation: str | None,
    target: np.ndarray,
    compiled: str | None = None,
    metrics: tuple[str, ...] = (),
    **fine_tune: object,
) -> Objective:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])
    spec = PruningSpec.model_validate(
        {
            "model": "mdl_1",
            "dataset": "dts_1",
            "prune": {"target": {"kind": "fraction", "remove": 0.5}},
            "fine_tune": fine_tune,
        }
    )
    training = TrainingInfo(loss=compiled, metrics=metrics) if compiled else None
    return infer(model, training, (target,), spec)


@pytest.mark.parametrize(
    ("units", "activation", "target", "compiled", "loss", "logits"),
    [
        (3, "softmax", LABELS, None, "sparse_categorical_crossentropy", False),
        (3, None, LABELS, None, "sparse_categorical_crossentropy", True),
        (3, "softmax", ONE_HOT, None, "categorical_crossentropy", False),
        (1, "sigmoid", BITS, None, "binary_crossentropy", False),
        (1, None, VALUES, None, "mean_squared_error", False),
        (1, None, VALUES, "mae", "mean_absolute_error", False),
        (1, None, BITS, "binary_crossentropy", "binary_crossentropy", True),
        (
            3,
            "softmax",
            LABELS,
            "categorical_crossentropy",
            "sparse_categorical_crossentropy",
            False,
        ),
        (3, None, ONE_HOT, "SPARSE_CATEGORICAL_CROSSENTROPY", "categorical_crossentropy", True),
        (3, "softmax", LABELS, "my_own_loss", "sparse_categorical_crossentropy", False),
        (3, "softmax", LABELS, "mse", "sparse_categorical_crossentropy", False),
    ],
)
def test_loss(
    units: int,
    activation: str | None,
    target: np.ndarray,
    compiled: str | None,
    loss: str,
    logits: bool,
) -> None:
    (one,) = settle(units, activation, target, compiled).outputs
    assert (one.loss, one.from_logits) == (loss, logits)
    assert one.keras_loss().get_config().get("from_logits", False) == logits


def test_what_is_asked_for_wins_and_is_checked() -> None:
    assert settle(1, None, VALUES, "mse", loss="huber").outputs[0].loss == "huber"
    for loss, target in (
        ("sparse_categorical_crossentropy", ONE_HOT),
        ("categorical_crossentropy", LABELS),
        ("mean_squared_error", LABELS),
        ("binary_crossentropy", LABELS),
    ):
        with pytest.raises(InvalidSpec) as refusal:
            settle(3, "softmax", target, loss=loss)
        assert refusal.value.field == "fine_tune.loss"


def test_metrics_come_from_the_compile_config() -> None:
    (one,) = settle(1, "sigmoid", BITS, "binary_crossentropy", ("auc", "accuracy", "mine")).outputs
    assert one.metrics == ("accuracy", "auc")
    assert settle(1, None, VALUES).outputs[0].metrics == ("mean_absolute_error",)


def test_a_changed_loss_is_noted() -> None:
    notes = settle(3, "softmax", LABELS, "categorical_crossentropy").notes
    assert any("class indexes" in note for note in notes)
