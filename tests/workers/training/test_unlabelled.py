"""Without targets the original's answers stand for them: agreement is trained, and measured."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.dataset import DatasetOptions
from app.domain.errors import InvalidSpec
from app.domain.metrics import Metrics
from app.domain.model import TrainingInfo
from app.domain.prune import Prune
from app.domain.spec import PruningSpec
from app.intake.datasets import inspect_dataset
from app.intake.fit import check_objective
from app.intake.models import inspect_model
from tests.workers.orders import make_order
from workers.evaluation.evaluate import evaluate
from workers.protocol import Reporter
from workers.run import run
from workers.training.data import Data, Samples
from workers.training.unlabelled import NOTE, answered
from workers.training.variational import loss_scale
from workers.training.weighting import balanced

SPEC = PruningSpec.model_validate(
    {
        "model": "mdl_1",
        "dataset": "dts_1",
        "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
    }
)


def samples(count: int) -> Samples:
    x = np.random.default_rng(count).standard_normal((count, 6)).astype(np.float32)
    return Samples({"x": x}, (), count)


DATA = Data(train=samples(60), validation=samples(20), test=samples(30), notes=("first",))


def model(activation: str | None, units: int = 3) -> Any:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(16, activation="relu")
    last = keras.layers.Dense(units, activation=activation, name="out")
    return keras.Sequential([keras.Input((6,), name="x"), hidden, last])


COMPILED = TrainingInfo.model_validate(
    {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy", "auc"]}
)


@pytest.mark.parametrize(
    ("activation", "units", "training", "loss"),
    [
        ("softmax", 3, None, "categorical_crossentropy"),
        ("softmax", 3, COMPILED, "categorical_crossentropy"),
        (None, 3, COMPILED, "categorical_crossentropy"),
        ("sigmoid", 1, None, "binary_crossentropy"),
        (None, 2, None, "mean_squared_error"),
    ],
)
def test_the_original_agrees_with_itself(
    activation: str | None, units: int, training: Any, loss: str
) -> None:
    original = model(activation, units)
    data, objective = answered(DATA, original, training, SPEC)
    (one,) = objective.outputs
    assert one.loss == loss
    assert data.notes == (NOTE, "first")
    found = evaluate(original, data.test, objective)
    if one.classifies:
        assert found["accuracy"].value == 1.0
    else:
        assert found["mean_absolute_error"].value == pytest.approx(0.0, abs=1e-6)
    (answers,) = data.train.targets
    assert answers.shape == (60, units)
    if loss == "categorical_crossentropy":
        np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-5)


def test_a_job_with_inputs_alone(tmp_path: Path) -> None:
    original = model("softmax")
    original.save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x=samples(600).inputs["x"])
    assert inspect_dataset(tmp_path / "d.npz", "d.npz", DatasetOptions()).unlabelled
    adam = {"kind": "adam", "learning_rate": 0.01}
    spec = {
        "dataset": "dts_1",
        "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
        "fine_tune": {"epochs": 12, "batch_size": 32, "optimizer": adam},
    }
    order = make_order(tmp_path / "m.keras", tmp_path, spec, data=tmp_path / "d.npz")
    with (tmp_path / "told").open("w") as pipe:
        result, _ = run(order, Reporter(pipe))
    metrics = Metrics.model_validate(result)
    assert metrics.unlabelled
    assert metrics.before.evaluation["accuracy"].value == 1.0
    cut, end = (one.evaluation["loss"].value for one in (metrics.pruned, metrics.after))
    assert cut is not None
    assert end is not None
    assert end < cut
    assert NOTE in metrics.notes
    assert any(said.startswith("Against the original's own answers") for said in metrics.verdict)


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_gradients_say_nothing_where_the_model_agrees_with_itself(
    criterion: str, tmp_path: Path
) -> None:
    model("softmax").save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x=samples(60).inputs["x"])
    info = inspect_model(tmp_path / "m.keras", "m.keras")
    data = inspect_dataset(tmp_path / "d.npz", "d.npz", DatasetOptions())
    spec = SPEC.model_copy(
        update={"prune": Prune.model_validate(SPEC.prune.model_dump() | {"criterion": criterion})}
    )
    with pytest.raises(InvalidSpec, match="follows the gradient"):
        check_objective(info, data, spec)
    check_objective(info, data, SPEC)


def test_classes_of_probabilities_are_balanced() -> None:
    targets = np.array([[0.9], [0.8], [0.7], [0.2]], np.float32)
    found = balanced(Samples({"x": np.zeros((4, 1))}, (targets,), 4))
    np.testing.assert_allclose(found, [2 / 3, 2 / 3, 2 / 3, 2.0], rtol=1e-6)


def test_numbers_that_are_met_exactly_have_a_likelihood_all_the_same() -> None:
    original = model(None, 2)
    data, objective = answered(DATA, original, None, SPEC)
    found = loss_scale(original, objective, data.train, 0)
    assert found == pytest.approx(2 * (0.1 * np.std(data.train.targets[0])) ** 2)
