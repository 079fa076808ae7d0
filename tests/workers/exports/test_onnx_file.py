"""model.onnx computes what the Keras model computes, on ONNX Runtime."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import onnx
import onnxruntime as ort
import pytest
import tensorflow as tf
from keras import layers

from app.domain.errors import EngineRefusal
from tests.workers.engine.zoo import (
    depthwise,
    mlp,
    not_understood,
    randomise,
    residual,
    siamese,
    text,
    two_in_two_out,
    unnamed,
)
from workers.exports.formats import write
from workers.exports.onnx_file import LARGEST_BYTES, OPSET
from workers.measure.agreement import ensure_agreement
from workers.measure.latency import onnxruntime_call, probe


def attention() -> Any:
    i = keras.Input((5, 8))
    x = layers.LayerNormalization()(i + layers.MultiHeadAttention(2, 4)(i, i))
    x = layers.Dense(6, activation="gelu")(x)
    return keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def recurrent() -> Any:
    i = keras.Input((None, 3))
    x = layers.LSTM(4, return_sequences=True)(i)
    return keras.Model(i, layers.Bidirectional(layers.GRU(3))(x))


def normalised() -> Any:
    """Constants in a layer, which are captured; pixels; dropout and batch normalisation."""
    i = keras.Input((6, 6, 3), dtype="uint8")
    x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])(i)
    x = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    x = layers.RandomFlip()(x)
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def one_output_twice() -> Any:
    i = keras.Input((3,))
    dense = layers.Dense(3, name="same")
    once = dense(i)
    return keras.Model(i, [once, dense(once), once])


@pytest.mark.parametrize(
    "build",
    [
        mlp,
        unnamed,
        residual,
        depthwise,
        siamese,
        two_in_two_out,
        text,
        not_understood,
        attention,
        recurrent,
        normalised,
        one_output_twice,
    ],
)
def test_the_file_computes_the_model(build: Callable[[], Any], tmp_path: Path) -> None:
    model = randomise(build())
    file = write(model, "onnx", tmp_path)
    assert file.name == "model.onnx"
    ensure_agreement(model, file, seed=1)
    (batch_of_one, *_) = onnxruntime_call(file, probe(model, 1, seed=0))()
    assert batch_of_one.shape[0] == 1


def within() -> Any:
    """Matrices of a nested model, of one that is wrapped, and of one that is used twice."""
    i = keras.Input((5, 8))
    shared = layers.Dense(8)
    inner = keras.Sequential([keras.Input((5, 8)), shared, layers.Dense(6)], name="inner")
    x = layers.TimeDistributed(layers.Dense(4))(inner(shared(i)))
    return keras.Model(i, layers.Dense(3, dtype="mixed_float16")(layers.Flatten()(x)))


@pytest.mark.parametrize("build", [mlp, siamese, text, attention, within])
def test_large_matrices_are_filled_in_after_the_conversion(
    build: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = randomise(build())
    usual = onnx.load(write(model, "onnx", tmp_path))
    monkeypatch.setattr("workers.exports.onnx_file.HELD_OUT_BYTES", 0)
    file = write(model, "onnx", tmp_path)
    ensure_agreement(model, file, seed=1)
    proto = onnx.load(file)
    assert list(proto.graph.input) == list(usual.graph.input)
    matrices = {
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, layers.Dense | layers.Embedding)
    }
    assert matrices <= {each.name.split("/")[0] for each in proto.graph.initializer}


def test_tensors_have_the_layers_names_and_any_batch_size(tmp_path: Path) -> None:
    session = ort.InferenceSession(str(write(two_in_two_out(), "onnx", tmp_path)))
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "facts": ["batch", 4],
        "image": ["batch", 6, 6, 1],
    }
    assert {each.name: each.shape for each in session.get_outputs()} == {
        "kind": ["batch", 3],
        "size": ["batch", 1],
    }


def test_an_output_that_is_there_twice_gets_two_names(tmp_path: Path) -> None:
    session = ort.InferenceSession(str(write(one_output_twice(), "onnx", tmp_path)))
    assert [each.name for each in session.get_outputs()] == ["same", "same_1", "same_2"]


def test_convolutions_swallow_batch_norm_and_layout(tmp_path: Path) -> None:
    """Six convolutions with five normalisations: one move of axes, at the input, is left."""
    proto = onnx.load(write(randomise(residual()), "onnx", tmp_path))
    kinds = Counter(node.op_type for node in proto.graph.node)
    assert kinds["Conv"] == 6
    assert kinds["Transpose"] == 1
    assert not {"BatchNormalization", "Mul"} & set(kinds)
    assert {each.domain: each.version for each in proto.opset_import}[""] == OPSET


def test_a_hard_gate_stands_in_no_transposes_way(tmp_path: Path) -> None:
    """A scalar that is added to a convolution is no bias, and tf2onnx stumbled over it."""
    i = x = keras.Input((8, 8, 3))
    for _ in range(2):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        gate = layers.Conv2D(8, 1, use_bias=False)(x)
        x = x * (keras.ops.relu6(gate + 3.0) * (1.0 / 6.0))
    model = randomise(keras.Model(i, layers.GlobalAveragePooling2D()(x)))
    file = write(model, "onnx", tmp_path)
    ensure_agreement(model, file, seed=1)
    kinds = Counter(node.op_type for node in onnx.load(file).graph.node)
    assert kinds["Transpose"] == 1
    assert kinds["HardSigmoid"] == 2


def test_an_operation_without_counterpart_is_named(tmp_path: Path) -> None:
    i = keras.Input((8,))
    model = keras.Model(i, keras.ops.rfft(i)[0])
    with pytest.raises(EngineRefusal, match=r"cannot be exported as onnx: .*FFT") as refused:
        write(model, "onnx", tmp_path)
    assert refused.value.field == "exports"
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_file_holds_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("workers.exports.onnx_file.LARGEST_BYTES", 1000)
    # 20·30 + 30 + 30·10 + 10 + 10·4 + 4 = 984 weights of 4 bytes.
    with pytest.raises(EngineRefusal, match="at most 2 GiB; the weights have 3936 bytes"):
        write(mlp(), "onnx", tmp_path)
    assert LARGEST_BYTES < 2**31


def test_writing_leaves_tensorflow_as_it_was_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    level = tf.get_logger().level
    write(randomise(mlp()), "onnx", tmp_path)
    assert not tf.config.functions_run_eagerly()
    assert tf.get_logger().level == level
    out, err = capfd.readouterr()
    assert out == ""
    assert "onnx" not in err


def test_half_precision(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = randomise(mlp())
    finally:
        keras.config.set_dtype_policy("float32")
    file = write(model, "onnx", tmp_path)
    ensure_agreement(model, file, seed=0)
    kernel = model.weights[0]
    kernel.assign(kernel * 1.5)
    with pytest.raises(EngineRefusal, match="computes something else"):
        ensure_agreement(model, file, seed=0)
