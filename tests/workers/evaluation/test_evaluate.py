"""Metrics against values worked out by hand or by scikit-learn."""

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.domain.errors import InvalidSpec
from workers.evaluation.evaluate import evaluate, mean_interval, metric, wilson
from workers.training.data import Samples
from workers.training.objective import Objective, OutputObjective


def objective(loss: str, logits: bool = False) -> OutputObjective:
    return OutputObjective("out", loss, logits, ())


def test_wilson_interval() -> None:
    """15 of 20: the interval of Wilson's formula is 0.531 to 0.888."""
    low, high = wilson(15, 20)
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_mean_interval_is_1_96_standard_errors() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    low, high = mean_interval(values)
    assert (low + high) / 2 == 2.5
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(5 / 3) / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "logits", "truth", "values", "expected"),
    [
        ("sparse_categorical_crossentropy", False, [0, 1, 1], [[9, 1], [1, 9], [9, 1]], 2 / 3),
        ("categorical_crossentropy", False, [[1, 0], [0, 1]], [[0.9, 0.1], [0.2, 0.8]], 1.0),
        ("binary_crossentropy", False, [0, 1, 1, 0], [[0.4], [0.6], [0.4], [0.2]], 0.75),
        ("binary_crossentropy", True, [[0], [1]], [[-0.1], [0.1]], 1.0),
        ("binary_crossentropy", True, [0, 1], [[0.4], [0.6]], 0.5),
    ],
)
def test_accuracy(loss: str, logits: bool, truth: list, values: list, expected: float) -> None:
    found = metric("accuracy", objective(loss, logits), np.array(truth), np.array(values, float))
    assert found.value == pytest.approx(expected)
    assert found.samples == len(truth)
    low, high = found.interval
    assert low <= expected <= high


def test_top_5() -> None:
    values = np.tile(np.arange(8.0), (8, 1))
    found = metric(
        "top_5_accuracy", objective("sparse_categorical_crossentropy"), np.arange(8), values
    )
    assert found.value == 5 / 8


def test_auc_is_that_of_scikit_learn_ties_included() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)
    scores = np.round(random.random(200) + 0.3 * truth, 1)
    found = metric("auc", objective("binary_crossentropy"), truth, scores[:, None])
    assert found.value == pytest.approx(roc_auc_score(truth, scores))
    assert found.interval[0] < found.value < found.interval[1]


def test_errors_of_regression() -> None:
    truth, values = np.array([1.0, 2.0]), np.array([[2.0], [4.0]])
    mse = metric("mean_squared_error", objective("mean_squared_error"), truth, values)
    mae = metric("mean_absolute_error", objective("mean_squared_error"), truth, values)
    assert (mse.value, mae.value) == (2.5, 1.5)


@pytest.mark.parametrize(
    ("name", "loss", "values"),
    [
        ("accuracy", "mean_squared_error", np.zeros((2, 1))),
        ("auc", "sparse_categorical_crossentropy", np.zeros((2, 3))),
    ],
)
def test_what_is_not_defined_is_refused(name: str, loss: str, values: np.ndarray) -> None:
    with pytest.raises(InvalidSpec, match=r"not defined|defined for two"):
        metric(name, objective(loss), np.array([0, 1]), values)


def test_answers_by_name_are_matched_by_the_order_of_outputs() -> None:
    """Names under which a model answers need not be those of the layers behind them."""
    inputs = keras.Input((1,))
    ones, threes = (
        keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value), name=name)
        for value, name in ((1.0, "z"), (3.0, "a"))
    )
    model = keras.Model(inputs, {"first": ones(inputs), "second": threes(inputs)})
    x = np.ones((4, 1), "float32")
    aims = Objective(
        tuple(
            OutputObjective(name, "mean_squared_error", False, ("mean_squared_error",))
            for name in ("z", "a")
        ),
        (),
    )
    found = evaluate(model, Samples({"x": x}, (x, x), 4), aims)
    assert found["z.mean_squared_error"].value == pytest.approx(0.0)
    assert found["a.mean_squared_error"].value == pytest.approx(4.0)
