"""Timing: what is computed from seconds, and that every runtime computes the model."""

from pathlib import Path

import keras
import numpy as np
import pytest

from workers.exports.formats import write
from workers.measure.latency import (
    WARM_UP_CALLS,
    compare,
    figure,
    keras_call,
    litert_call,
    onnxruntime_call,
    probe,
    speed_up,
)


def test_speed_up_is_the_median_of_pairs_with_an_interval() -> None:
    before = np.full(101, 2.0)
    after = np.linspace(0.5, 1.5, 101)
    ratio, (low, high) = speed_up(before, after)
    assert ratio == pytest.approx(2.0)
    assert low < ratio < high
    # n/2 - 0.98 sqrt(n) = 40.65: the 41st and 61st of 101 values.
    assert (low, high) == (pytest.approx(2 / 1.1), pytest.approx(2 / 0.9))


def test_equal_models_are_equally_fast_whatever_the_drift() -> None:
    """A machine that slows down steadily must not look like a speed-up."""
    drift = np.linspace(1.0, 3.0, 60)
    ratio, (low, high) = speed_up(drift, drift)
    assert (ratio, low, high) == (1.0, 1.0, 1.0)


def test_calls_alternate_and_percentiles_are_milliseconds() -> None:
    order = []
    before, after = compare(lambda: order.append("b"), lambda: order.append("a"), 4)
    assert "".join(order[2 * WARM_UP_CALLS :]) == "baabbaab"
    assert len(before) == len(after) == 4
    assert figure("keras", 1, 1, np.array([0.001, 0.002, 0.003])).p50_ms == pytest.approx(2.0)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_runtimes_compute_the_model(tmp_path: Path, batch_size: int) -> None:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    merged = keras.layers.Concatenate()([left, keras.layers.Dense(2)(right)])
    model = keras.Model([left, right], keras.layers.Dense(3, activation="softmax")(merged))
    inputs = probe(model, batch_size, seed=0)
    expected = model.predict(list(inputs.values()), verbose=0)
    (by_keras,) = keras_call(model, inputs)()
    (by_litert,) = litert_call(write(model, "litert", tmp_path), inputs)()
    (by_onnxruntime,) = onnxruntime_call(write(model, "onnx", tmp_path), inputs)()
    np.testing.assert_allclose(by_keras, expected, atol=1e-6)
    np.testing.assert_allclose(by_litert, expected, atol=1e-5)
    np.testing.assert_allclose(by_onnxruntime, expected, atol=1e-5)


def test_probes_are_words_where_an_embedding_reads_them() -> None:
    words, facts = keras.Input((50,), name="words"), keras.Input((2,), name="facts")
    text = keras.layers.Flatten()(keras.layers.Embedding(7, 2)(words))
    found = probe(keras.Model([words, facts], keras.layers.Concatenate()([text, facts])), 4, seed=0)
    assert set(np.unique(found["words"])) == set(range(7))
    assert not np.array_equal(found["facts"], np.round(found["facts"]))
    np.testing.assert_array_equal(found["words"].shape, (4, 50))


def test_what_onnx_runtime_says_is_one_kind_of_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match="INVALID_PROTOBUF"):
        onnxruntime_call(tmp_path / "model.onnx", {})
