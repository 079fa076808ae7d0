"""Every format, opened and run by its own runtime, gives what the model gives."""

from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest

from app.domain.metrics import TensorFigure
from app.domain.prune import QUANTISED, Export
from tests.workers.engine.zoo import randomise, two_in_two_out
from workers.evaluation.exported import look, run
from workers.evaluation.files import NO_RUNTIME
from workers.evaluation.running import opened
from workers.exports.formats import write
from workers.measure.latency import probe

RUNNABLE = [each for each in get_args(Export) if each not in NO_RUNTIME]


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(two_in_two_out())


@pytest.fixture(scope="module")
def inputs(model: Any) -> dict[str, Any]:
    return probe(model, 100, seed=0)


@pytest.mark.parametrize("export", RUNNABLE)
def test_it_takes_and_gives_what_the_model_does(
    model: Any, inputs: dict[str, Any], export: Any, tmp_path: Path
) -> None:
    if export == "litert_int8":
        pytest.skip("takes models with one input")
    file = write(model, export, tmp_path, list(inputs.values()))
    expected = keras.tree.flatten(model.predict(inputs, verbose=0))
    ready = opened(file)
    for mine, theirs in zip(run(ready, inputs), expected, strict=True):
        near = 0.1 if export in QUANTISED else 1e-5
        np.testing.assert_allclose(mine, theirs, atol=near * float(np.abs(theirs).max()))
    assert {one.shape for one in ready.inputs} == {(None, 4), (None, 6, 6, 1)}
    assert [one.shape for one in ready.outputs] == [(None, *one.shape[1:]) for one in expected]
    assert {one.dtype for one in (*ready.inputs, *ready.outputs)} == {"float32"}
    assert ready.details


def test_a_file_says_how_far_off_it_is(tmp_path: Path) -> None:
    i = keras.Input((3,), name="x")
    model = keras.Model(i, keras.layers.Rescaling(2.0, name="twice")(i))
    file = write(model, "onnx", tmp_path)
    x = {"x": np.array([[1.0, 2.0, 4.0]], np.float32)}
    said = look(file, x, [np.array([[2.0, 4.0, 10.0]], np.float32)])
    assert said.difference == pytest.approx(0.2)
    assert said.samples == 1
    assert said.inputs == (TensorFigure(name="x", shape=(None, 3), dtype="float32"),)
    assert said.details["opset"] == "17"
    assert look(file, x, [np.zeros((1, 4), np.float32)]).difference is None


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_what_a_runtime_cannot_open_is_a_plain_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no model at all")
    with pytest.raises((ValueError, RuntimeError)):
        opened(tmp_path / name)


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
@pytest.mark.parametrize("export", ["onnx", "onnx_int8", "saved_model", "litert"])
def test_whole_numbers_of_any_width_and_names_of_any_form(
    dtype: str, export: Any, tmp_path: Path
) -> None:
    """Data sets hold int32; TensorFlow writes names in its own letters."""
    a, b = keras.Input((3,), name="my-a", dtype=dtype), keras.Input((2,), name="b")
    looked_up = keras.layers.Flatten()(keras.layers.Embedding(5, 4)(a))
    x = keras.layers.Concatenate()([looked_up, b])
    model = randomise(keras.Model([a, b], keras.layers.Dense(2, name="out")(x)))
    inputs = {
        "my-a": np.array([[0, 1, 4], [2, 2, 3]], np.int32),
        "b": np.array([[0.5, -1.0], [2.0, 0.1]], np.float32),
    }
    file = write(model, export, tmp_path, list(inputs.values()))
    (received,) = run(opened(file), inputs)
    expected = np.asarray(model([inputs["my-a"].astype(dtype), inputs["b"]]))
    near = 0.1 if export in QUANTISED else 1e-4
    np.testing.assert_allclose(received, expected, atol=near * float(np.abs(expected).max()))
