"""Quantised files are run by LiteRT itself, before they are offered and for their metrics."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from tests.workers.engine.zoo import randomise, two_in_two_out
from workers.evaluation.evaluate import evaluate
from workers.evaluation.exported import ensure_runs, evaluate_file, outputs
from workers.exports.formats import write
from workers.measure.latency import probe
from workers.training.data import Samples
from workers.training.objective import Objective, OutputObjective

OBJECTIVE = Objective(
    (OutputObjective("out", "sparse_categorical_crossentropy", False, ("accuracy",)),), ()
)


@pytest.fixture(scope="module")
def classifier() -> Any:
    keras.utils.set_random_seed(1)
    i = keras.Input((8, 8, 1), name="x")
    x = layers.BatchNormalization()(layers.Conv2D(12, 3, activation="relu")(i))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(i, layers.Dense(4, activation="softmax")(x))


def images(count: int) -> Samples:
    random = np.random.default_rng(0)
    x = random.standard_normal((count, 8, 8, 1)).astype(np.float32)
    return Samples({"x": x}, (random.integers(0, 4, count).astype(np.int32),), count)


@pytest.mark.parametrize(
    ("export", "smaller", "near"),
    [
        ("litert_float16", 1.9, 1e-3),
        ("litert_dynamic_int8", 3.4, 0.02),
        ("litert_int8", 3.3, 0.1),
        ("onnx_int8", 2.8, 0.1),
    ],
)
def test_quantised_files_are_smaller_and_nearly_the_same(
    classifier: Any, tmp_path: Path, export: Any, smaller: float, near: float
) -> None:
    samples = images(150)
    whole = write(classifier, "litert", tmp_path)
    file = write(classifier, export, tmp_path, list(samples.inputs.values()))
    assert whole.stat().st_size > smaller * file.stat().st_size
    expected = classifier.predict(samples.x, verbose=0)
    (received,) = outputs(file, samples.inputs)
    assert received.dtype == np.float32
    difference = float(np.abs(received - expected).max())
    assert 0 < difference < near


def test_a_float_file_has_the_metrics_of_the_model(classifier: Any, tmp_path: Path) -> None:
    """130 samples: two whole batches and a rest of two."""
    samples = images(130)
    found = evaluate_file(write(classifier, "litert", tmp_path), samples, OBJECTIVE)
    expected = evaluate(classifier, samples, OBJECTIVE)
    assert found["accuracy"] == expected["accuracy"]
    assert found["loss"].value == pytest.approx(expected["loss"].value, rel=1e-5)


def test_inputs_are_told_by_name_and_outputs_keep_their_order(tmp_path: Path) -> None:
    model = randomise(two_in_two_out())
    inputs = probe(model, 3, seed=0)
    file = write(model, "litert", tmp_path)
    expected = model.predict(inputs, verbose=0)
    for mine, theirs in zip(outputs(file, inputs), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_an_input_may_be_called_like_a_part_of_another(tmp_path: Path) -> None:
    a, more = keras.Input((3,), name="a"), keras.Input((3,), name="a_1")
    model = keras.Model([a, more], a - 2.0 * more)
    inputs = {"a": np.full((2, 3), 5.0, np.float32), "a_1": np.ones((2, 3), np.float32)}
    (received,) = outputs(write(model, "litert", tmp_path), inputs)
    np.testing.assert_allclose(received, np.full((2, 3), 3.0))


def test_more_than_ten_outputs_keep_their_order(tmp_path: Path) -> None:
    i = keras.Input((3,), name="x")
    model = keras.Model(i, [i * float(factor) for factor in range(1, 13)])
    x = np.ones((2, 3), np.float32)
    received = outputs(write(model, "litert", tmp_path), {"x": x})
    assert [float(each[0, 0]) for each in received] == list(range(1, 13))


def test_ranges_need_data_and_one_input(classifier: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal, match="one input, on data"):
        write(classifier, "litert_int8", tmp_path)
    with pytest.raises(EngineRefusal, match="one input, on data"):
        write(two_in_two_out(), "litert_int8", tmp_path, [np.ones((1, 4)), np.ones((1, 6, 6, 1))])


def test_a_file_that_does_not_run_is_not_offered(classifier: Any, tmp_path: Path) -> None:
    inputs = {"x": images(2).inputs["x"]}
    file = write(classifier, "litert", tmp_path)
    ensure_runs(file, inputs, [np.ones((2, 4))])
    ensure_runs(file, inputs, [np.full((2, 4), np.nan)])
    with pytest.raises(EngineRefusal, match=r"puts out shapes .*\(2, 4\)"):
        ensure_runs(file, inputs, [np.ones((2, 5))])
    broken = tmp_path / "model_int8.tflite"
    broken.write_bytes(file.read_bytes()[:200])
    with pytest.raises(
        EngineRefusal, match=r"model_int8\.tflite was written, but its runtime cannot"
    ):
        ensure_runs(broken, inputs, [np.ones((2, 4))])
