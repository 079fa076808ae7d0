"""Layouts of Keras' kernels. Input axes are those whose lengths the layers' inputs have."""

from typing import Any

import numpy as np
import pytest
from keras import layers

from workers.engine.matrices import as_matrix

STEPS, PIXELS = (None, 7, 5), (None, 8, 8, 5)


def kernels(layer: Any, shape: tuple[int | None, ...]) -> dict[str, Any]:
    layer.build(shape)
    return {each.name: each for each in layer.weights if "kernel" in each.name}


# 5 inputs, 3 outputs, so that the lengths tell the axes apart.
@pytest.mark.parametrize(
    ("layer", "shape", "inputs", "outputs"),
    [
        (layers.Dense(3), (None, 5), (0,), (1,)),
        (layers.Conv1D(3, 2), STEPS, (1,), (2,)),
        (layers.Conv2D(3, 2), PIXELS, (2,), (3,)),
        (layers.Conv2DTranspose(3, 2), PIXELS, (3,), (2,)),
        (layers.LSTM(3), STEPS, (0,), (1,)),
        (layers.Bidirectional(layers.GRU(3)), STEPS, (0,), (1,)),
        (layers.ConvLSTM1D(3, 2), (None, 4, 7, 5), (1,), (2,)),
        (layers.TimeDistributed(layers.Dense(3)), STEPS, (0,), (1,)),
        (layers.EinsumDense("abc,cd->abd", (7, 3)), STEPS, (0,), (1,)),
        (layers.EinsumDense("abc,dc->abd", (7, 3)), STEPS, (1,), (0,)),
        (layers.EinsumDense("abc,bcd->ad", 3), STEPS, (0, 1), (2,)),
        (layers.EinsumDense("abc,bcd->abd", (7, 3)), STEPS, (1,), (2,)),
        (layers.EinsumDense("...x,xy->...y", 3), STEPS, (0,), (1,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_axes(layer: Any, shape: Any, inputs: Any, outputs: Any) -> None:
    matrix = as_matrix(layer, kernels(layer, shape)["kernel"])
    assert not isinstance(matrix, str)
    assert (matrix.inputs, matrix.outputs) == (inputs, outputs)


def test_attention_sums_over_features_and_then_over_heads() -> None:
    layer = layers.MultiHeadAttention(2, 3)
    layer.build(STEPS, STEPS)
    found = [as_matrix(layer, each) for each in layer.weights if each.name == "kernel"]
    sides = [(m.inputs, m.outputs, m.sides) for m in found if not isinstance(m, str)]
    assert sides == [((0,), (1, 2), (5, 6))] * 3 + [((0, 1), (2,), (6, 5))]


def test_recurrent_kernels_have_all_gates_as_outputs() -> None:
    layer = layers.LSTM(3)
    matrix = as_matrix(layer, kernels(layer, STEPS)["recurrent_kernel"])
    assert not isinstance(matrix, str)
    assert matrix.sides == (3, 12)


def test_of_a_separable_convolution_the_pointwise_kernel_is_one() -> None:
    layer = layers.SeparableConv2D(3, 2, depth_multiplier=2)
    found = kernels(layer, PIXELS)
    matrix = as_matrix(layer, found["pointwise_kernel"])
    assert not isinstance(matrix, str)
    assert matrix.sides == (10, 3)
    assert "one channel only" in str(as_matrix(layer, found["depthwise_kernel"]))


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (layers.DepthwiseConv2D(2), PIXELS, "depthwise kernel reads one channel only"),
        (layers.Embedding(9, 4), (None, 7), "an embedding looks rows up"),
        (layers.EinsumDense("abc,c->abc", (7, 5)), STEPS, "sums over none"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_matrix_says_why(layer: Any, shape: Any, reason: str) -> None:
    layer.build(shape)
    assert reason in str(as_matrix(layer, layer.weights[0]))


def test_an_unknown_layer_is_named() -> None:
    class Odd(layers.Layer):  # type: ignore[misc, unused-ignore]
        def build(self, shape: Any) -> None:
            self.odd = self.add_weight(shape=(2, 3), name="kernel")

    layer = Odd()
    layer.build(STEPS)
    assert "which axes of Odd's kernel are inputs is not known" in str(as_matrix(layer, layer.odd))


def test_what_a_layer_computes_is_the_sum_over_the_input_axes() -> None:
    """The rule for einsums, against Keras itself: without its inputs nothing is computed."""
    layer = layers.EinsumDense("abc,dbc->ad", 3)
    x = np.ones((1, 2, 5), np.float32)
    layer(x)
    kernel = layer.weights[0]
    matrix = as_matrix(layer, kernel)
    assert not isinstance(matrix, str)
    expected = matrix.fold(np.array(kernel)).sum(axis=1)[0]
    np.testing.assert_allclose(np.array(layer(x))[0], expected, rtol=1e-5)
