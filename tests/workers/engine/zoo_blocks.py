"""Small models of further patterns: groups, normalisations, attention, nested models, dtypes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import layers


def grouped() -> Any:
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(12, 3, activation="relu")(i)
    x = layers.Conv2D(18, 3, groups=3, activation="relu", padding="same")(x)
    x = layers.Conv2D(18, 3, groups=18)(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 1, groups=2)(layers.Conv2D(12, 1)(x))
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def normalised() -> Any:
    i = keras.Input((5, 4))
    x = layers.Dense(12)(i)
    x = layers.LayerNormalization()(x)
    x = layers.Dense(8, activation="gelu")(x)
    x = layers.RMSNormalization()(x)
    x = layers.Add()([layers.Dense(8)(x), x])
    x = layers.UnitNormalization()(x)
    x = layers.Dense(12)(layers.GroupNormalization(3)(layers.Dense(12)(x)))
    x = layers.LayerNormalization(axis=[1, 2])(x)
    x = layers.GroupNormalization(-1)(layers.Dense(6)(x))
    return keras.Model(i, layers.Dense(3)(layers.Flatten()(x)))


def spectral() -> Any:
    i = keras.Input((6, 6, 2))
    x = layers.SpectralNormalization(layers.Conv2D(8, 3, activation="relu"))(i)
    x = layers.Flatten()(x)
    x = layers.SpectralNormalization(layers.Dense(10, activation="relu"))(x)
    return keras.Model(i, layers.Dense(2)(x))


def _encoder(x: Any, heads: int, width: int, wide: int, **settings: Any) -> Any:
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads, **settings)(y, y)])
    y = layers.Dense(wide, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(width)(y)])


def vit() -> Any:
    i = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 16))(layers.Conv2D(16, 2, strides=2)(i))
    for _ in range(2):
        x = _encoder(x, 4, 16, 24)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(i, layers.Dense(3)(x))


def translator() -> Any:
    """Self- and cross-attention, causal and not; a value_dim and output of its own; scores."""
    source, target = keras.Input((None,), name="source"), keras.Input((None,), name="target")
    x = layers.Embedding(20, 12)(source)
    x = _encoder(x, 2, 12, 16, value_dim=4)
    y = layers.Embedding(20, 12)(target)
    y = layers.Add()([y, layers.MultiHeadAttention(3, 4)(y, y, use_causal_mask=True)])
    z, scores = layers.MultiHeadAttention(2, 5, output_shape=10, use_bias=False)(
        y, x, return_attention_scores=True
    )
    z = layers.Dense(6, activation="relu")(z)
    summed = layers.Dense(2)(layers.Permute((2, 3, 1))(scores))
    return keras.Model(
        {"source": source, "target": target}, [layers.Dense(4)(z), summed], name="translator"
    )


def grouped_query() -> Any:
    i = keras.Input((7, 10))
    x = layers.Dense(12)(i)
    y = layers.GroupQueryAttention(6, 4, 2)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(i, layers.Dense(2)(x))


def dot_attention() -> Any:
    i = keras.Input((6, 5))
    q, k, v = (layers.Dense(n)(i) for n in (8, 8, 10))
    x = layers.Attention(use_scale=True)([q, v, k])
    y = layers.AdditiveAttention()([layers.Dense(8)(x), layers.Dense(8)(i)])
    z = layers.Attention(score_mode="concat")([layers.Dense(8)(y), layers.Dense(8)(i)])
    return keras.Model(i, layers.Dense(2)(layers.Concatenate()([x, y, z])))


def einsum() -> Any:
    i = keras.Input((6, 8))
    x = layers.EinsumDense("abc,cd->abd", output_shape=(6, 12), bias_axes="d")(i)
    x = layers.EinsumDense("...x,xhd->...hd", output_shape=(3, 5), bias_axes="hd")(x)
    x = layers.EinsumDense("abhd,hde->abe", output_shape=(6, 9), activation="relu")(x)
    x = layers.EinsumDense("abc,bcd->abd", output_shape=(6, 7))(x)
    return keras.Model(i, layers.Dense(2)(x))


def mixer() -> Any:
    i = keras.Input((8, 6))
    x = layers.Dense(10)(i)
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(8)(layers.Dense(12, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute((2, 1))(y)])
        y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(10)(y)])
    return keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def nested() -> Any:
    """Models within models, one of them used twice, one three deep."""
    i = keras.Input((8, 8, 2), name="inner_image")
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(i)
    tower = keras.Model(i, layers.Conv2D(8, 3, name="conv_2")(x), name="tower")
    deep = keras.Sequential(
        [
            keras.Input((16,)),
            keras.Sequential([layers.Dense(12, activation="relu", name="conv")], name="core"),
            layers.Dense(9, name="last"),
        ],
        name="deep",
    )
    a, b = keras.Input((8, 8, 2), name="a"), keras.Input((8, 8, 2), name="b")
    x, y = tower(a), tower(b)
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([x, y]))
    return keras.Model([a, b], layers.Dense(2)(deep(x)))


def mixed_precision() -> Any:
    policy = keras.DTypePolicy("mixed_float16")
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", dtype=policy)(i)
    x = layers.BatchNormalization(dtype=policy)(x)
    x = layers.Flatten(dtype=policy)(x)
    return keras.Model(i, layers.Dense(3, dtype="float32")(layers.Dense(12, dtype=policy)(x)))


def volumes() -> Any:
    i = keras.Input((6, 6, 6, 1))
    x = layers.Conv3D(6, 3, activation="relu")(i)
    x = layers.Conv3DTranspose(4, 2)(layers.MaxPooling3D(2)(x))
    x = layers.Cropping3D(1)(layers.UpSampling3D(2)(x))
    x = layers.GlobalAveragePooling3D()(layers.ZeroPadding3D(1)(x))
    return keras.Model(i, layers.Dense(2)(x))


def lines() -> Any:
    i = keras.Input((20, 3))
    x = layers.SeparableConv1D(8, 3, activation="relu", depth_multiplier=2)(i)
    x = layers.Conv1DTranspose(6, 3)(layers.AveragePooling1D(2)(x))
    x = layers.PReLU(shared_axes=[1])(layers.Cropping1D(1)(layers.UpSampling1D(2)(x)))
    x = layers.AdaptiveAveragePooling1D(4)(layers.Conv1D(8, 3, groups=2)(x))
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def grid_of_units() -> Any:
    """Dense units laid out as heads times dimensions, brought together again."""
    i = keras.Input((5, 6))
    x = layers.Reshape((5, 3, 4))(layers.Dense(12, name="made")(i))
    x = layers.Reshape((5, 12))(layers.Permute((1, 3, 2))(x))
    x = layers.Add()([layers.Dense(12, name="other")(i), x])
    return keras.Model(i, layers.Dense(2)(x))


def recurrent() -> Any:
    i = keras.Input((None,))
    x = layers.Embedding(15, 8, mask_zero=True)(i)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), merge_mode="sum")(x)
    x = layers.GRU(6, reset_after=False, return_sequences=True)(x)
    x = layers.SimpleRNN(7, use_bias=False)(x)
    return keras.Model(i, layers.Dense(2)(x))


def states() -> Any:
    """An encoder's states start a decoder; a stack of cells; two directions apart."""
    a, b = keras.Input((5, 3), name="a"), keras.Input((6, 4), name="b")
    _, h, c = layers.LSTM(8, return_state=True)(a)
    x = layers.LSTM(8, return_sequences=True)(b, initial_state=[h, c])
    cells = [layers.LSTMCell(6), layers.GRUCell(7), layers.SimpleRNNCell(5)]
    x = layers.RNN(cells, return_sequences=True)(x)
    forward, backward = layers.Bidirectional(layers.RNN(layers.GRUCell(4)), merge_mode=None)(x)
    x = layers.Concatenate()([forward, layers.Dense(6)(backward)])
    return keras.Model([a, b], layers.Dense(2)(x))


def film() -> Any:
    i = keras.Input((4, 6, 6, 2))
    frame = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(6, 3, activation="relu", padding="same"),
            layers.LayerNormalization(),
        ]
    )
    x = layers.TimeDistributed(frame)(i)
    x = layers.TimeDistributed(layers.Conv2D(5, 1, activation="relu"))(x)
    x = layers.ConvLSTM2D(6, 3, padding="same", return_sequences=True)(x)
    x = layers.ConvLSTM2D(4, 3)(x)
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def language() -> Any:
    """A decoder whose embedding is tied to its output."""
    i = keras.Input((6,))
    table = layers.ReversibleEmbedding(11, 12)
    x = _encoder(table(i), 3, 12, 16)
    return keras.Model(i, table(layers.LayerNormalization()(x), reverse=True))


BLOCKS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            grouped,
            normalised,
            spectral,
            vit,
            translator,
            grouped_query,
            dot_attention,
            einsum,
            mixer,
            nested,
            mixed_precision,
            volumes,
            lines,
            grid_of_units,
            recurrent,
            states,
            film,
            language,
        )
    }
)
