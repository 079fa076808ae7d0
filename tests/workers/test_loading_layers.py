"""Every kind of layer and function that Keras saves: read statically, loaded, and the same.

What is expected is what Keras says of the model that was saved.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from app.intake.models import inspect_model
from workers.loading import load

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

ROW, SEQUENCE, IMAGE, VIDEO = (4,), (6, 4), (8, 8, 4), (3, 6, 6, 2)


def through(shape, layer, dtype=None):
    """A model of one layer between others that keep state, so that order matters."""

    def build():
        inputs = keras.Input(shape, dtype=dtype)
        first = inputs if dtype else layers.Dense(shape[-1])(inputs)
        return keras.Model(inputs, layer()(first))

    return build


def computed(shape, function):
    def build():
        inputs = keras.Input(shape)
        return keras.Model(inputs, function(layers.Dense(6)(inputs)))

    return build


def attention(layer, **settings):
    def build():
        inputs = keras.Input((6, 8))
        return keras.Model(inputs, layer()(inputs, inputs, **settings))

    return build


def scored():
    queries, values = keras.Input((7, 8)), keras.Input((5, 3))
    keys = layers.Dense(8)(values)
    return keras.Model([queries, values], layers.Attention(use_scale=True)([queries, values, keys]))


def nested():
    """Three deep, with a Sequential and a Functional that is called twice."""
    inputs = keras.Input(ROW)
    twice = keras.Model(inputs, layers.Dense(4)(layers.Dense(4)(inputs)), name="twice")
    stack = keras.Sequential([keras.Input(ROW), twice, layers.BatchNormalization()], name="stack")
    inputs = keras.Input(ROW)
    outer = keras.Model(inputs, stack(layers.Dense(4)(inputs)), name="outer")
    inputs = keras.Input(ROW)
    return keras.Model(inputs, layers.Dense(2)(outer(outer(inputs))))


def siamese():
    inputs = keras.Input(ROW)
    twin = keras.Model(inputs, layers.Dense(3)(inputs))
    a, b = keras.Input(ROW), keras.Input(ROW)
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid")(ops.abs(twin(a) - twin(b))))


def dictionaries():
    """Keys in another order than the alphabet's, by which Keras sorts them."""
    a, b = keras.Input((4,), name="second"), keras.Input((3,), name="first")
    inner_a, inner_b = keras.Input((4,)), keras.Input((3,))
    parts = {"q": layers.Dense(3)(inner_a), "p": layers.Dense(2)(inner_b)}
    inner = keras.Model({"z": inner_a, "a": inner_b}, parts)
    got = inner({"z": a, "a": b})
    ends = {"right": layers.Dense(5)(got["q"]), "left": layers.Dense(7)(got["p"])}
    return keras.Model({"y": a, "x": b}, ends)


def sequence_to_sequence():
    source, target = keras.Input((7, 3)), keras.Input((5, 2))
    _, h, c = layers.LSTM(4, return_state=True)(source)
    x = layers.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], layers.Dense(3, activation="softmax")(x))


def masked():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(3)(x)))


def tied():
    inputs = keras.Input((6,), dtype="int32")
    words = layers.ReversibleEmbedding(9, 4)
    return keras.Model(inputs, words(layers.Dense(4)(words(inputs)), reverse=True))


def transformer():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(tokens) + layers.Embedding(6, 8)(ops.expand_dims(ops.arange(6), 0))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(8)(layers.Dense(16, activation="gelu")(x)))
    return keras.Model(tokens, ops.softmax(layers.Dense(3)(x[:, 0])))


def channels_first():
    inputs = keras.Input((3, 8, 8))
    first = {"data_format": "channels_first"}
    x = layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3, **first)(inputs))
    x = layers.SeparableConv2D(4, 3, **first)(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(**first)(x))


def mixed():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, dtype="mixed_float16")(inputs)
    return keras.Model(inputs, layers.Dense(2, dtype="float64")(layers.Flatten()(x)))


def free_lengths():
    inputs = keras.Input((None, None, 3))
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same")(inputs))
    return keras.Model(inputs, layers.Conv2D(2, 1)(layers.UpSampling2D()(x)))


def split():
    inputs = keras.Input(ROW)
    return keras.Model(inputs, ops.split(layers.Dense(6)(inputs), [1, 3], axis=-1))


def stacked_cells():
    return layers.RNN([layers.LSTMCell(3), layers.GRUCell(5)], return_sequences=True)


def distributed_model():
    return layers.TimeDistributed(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))


MODELS = {
    "einsum": through(SEQUENCE, lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 5))),
    "einsum with dots": through(SEQUENCE, lambda: layers.EinsumDense("...x,xy->...y", 5)),
    "grouped convolution": through(IMAGE, lambda: layers.Conv2D(4, 3, groups=2)),
    "spectral": through(IMAGE, lambda: layers.SpectralNormalization(layers.Conv2D(3, 3))),
    "spectral in time": through(
        SEQUENCE,
        lambda: layers.TimeDistributed(layers.SpectralNormalization(layers.Dense(3))),
    ),
    "model in time": through(SEQUENCE, distributed_model),
    "convolution in time": through(VIDEO, lambda: layers.TimeDistributed(layers.Conv2D(3, 3))),
    "both ways": through(
        SEQUENCE,
        lambda: layers.Bidirectional(
            layers.GRU(3), backward_layer=layers.LSTM(3, go_backwards=True), merge_mode="sum"
        ),
    ),
    "stacked cells": through(SEQUENCE, stacked_cells),
    "convolutional lstm": through(VIDEO, lambda: layers.ConvLSTM2D(3, 3, return_sequences=True)),
    "group norm": through(IMAGE, lambda: layers.GroupNormalization(2)),
    "rms norm": through(SEQUENCE, layers.RMSNormalization),
    "unit norm": through(SEQUENCE, layers.UnitNormalization),
    "prelu": through(IMAGE, lambda: layers.PReLU(shared_axes=[1, 2])),
    "adaptive": through(IMAGE, lambda: layers.AdaptiveAveragePooling2D(2)),
    "one hot": through((5,), lambda: layers.CategoryEncoding(10, "one_hot"), "int32"),
    "bins": through(SEQUENCE, lambda: layers.Discretization([0.0, 1.0])),
    "lookup": through((5,), lambda: layers.IntegerLookup(vocabulary=[1, 2, 3]), "int64"),
    "activation layer": through(SEQUENCE, lambda: layers.Activation(layers.LeakyReLU(0.2))),
    "attention": attention(lambda: layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=5)),
    "grouped attention": attention(lambda: layers.GroupQueryAttention(4, 4, 2)),
    "causal": attention(lambda: layers.MultiHeadAttention(2, 4), use_causal_mask=True),
    "reshape": computed(ROW, lambda x: ops.transpose(ops.reshape(x, (-1, 2, 3)), (0, 2, 1))),
    "index": computed(SEQUENCE, lambda x: x[..., None][:, 1:5:2]),
    "matmul": computed(SEQUENCE, lambda x: x @ ops.swapaxes(x, 1, 2)),
    "mean": computed(SEQUENCE, lambda x: ops.mean(x, axis=(1, 2), keepdims=True)),
    "arithmetic": computed(ROW, lambda x: (2 * x - 1) / 3 + ops.relu(-x) ** 2),
    "largest": computed(SEQUENCE, lambda x: ops.argmax(x, axis=-1)),
    "joined": computed(SEQUENCE, lambda x: ops.concatenate([x, ops.stack([x, x], 1)[:, 0]], -1)),
    "dot": computed(SEQUENCE, lambda x: layers.Dot(axes=2)([x, layers.Dense(6)(x)])),
    **{
        build.__name__: build
        for build in (
            *(scored, nested, siamese, dictionaries, sequence_to_sequence, masked, tied),
            *(transformer, channels_first, mixed, free_lengths, split),
        )
    },
}


def sample(tensor):
    shape = [2 if index == 0 else size or 5 for index, size in enumerate(tensor.shape)]
    rng = np.random.default_rng(0)
    if "int" in tensor.dtype:
        return rng.integers(0, 4, shape).astype(tensor.dtype)
    return rng.normal(size=shape).astype(tensor.dtype)


def answers(model, values):
    """By structure, as Keras hands values to a model with named inputs."""
    named = keras.tree.pack_sequence_as(model.input, values)
    return keras.tree.flatten(model(named, training=False))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_is_what_keras_loads(name, tmp_path):
    model = MODELS[name]()
    model.save(tmp_path / "m.keras")
    info = inspect_model(tmp_path / "m.keras", "m.keras")
    loaded = load(tmp_path / "m.keras", info, tmp_path)

    assert info.parameters == loaded.count_params() == model.count_params()
    inputs = [(item.shape, item.dtype) for item in info.inputs]
    assert inputs == [(tensor.shape, tensor.dtype) for tensor in loaded.inputs]
    outputs = [(item.shape, item.dtype) for item in info.outputs]
    assert outputs == [(tensor.shape, tensor.dtype) for tensor in loaded.outputs]

    values = [sample(tensor) for tensor in model.inputs]
    arrays = values[0] if len(values) == 1 else values
    assert len(keras.tree.flatten(loaded.predict(arrays, verbose=0))) == len(info.outputs)
    for got, wanted in zip(answers(loaded, values), answers(model, values), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
