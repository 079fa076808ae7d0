"""Small models of `keras.ops` operations, one per pattern; see `zoo`."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers, ops


def numbers(*shape: int, seed: int = 7) -> Any:
    """A constant, such as a table of positions."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def attended(q: Any, k: Any, v: Any) -> Any:
    """(batch, heads, positions, dimensions) each."""
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / math.sqrt(q.shape[-1])
    return ops.matmul(ops.softmax(scores, axis=-1), v)


def finished(x: Any, y: Any) -> Any:
    """The rest of a transformer block, and a head that reads it."""
    x = x + layers.Dense(x.shape[-1])(y)
    y = layers.Dense(10, activation="gelu")(layers.LayerNormalization()(x))
    x = x + layers.Dense(x.shape[-1])(y)
    return layers.Dense(3)(ops.mean(x, axis=1))


def transformer() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i) + numbers(5, 8)
    y = layers.LayerNormalization()(x)
    q, k, v = (
        ops.transpose(ops.reshape(layers.Dense(12)(y), (-1, 5, 3, 4)), (0, 2, 1, 3))
        for _ in range(3)
    )
    y = ops.reshape(ops.transpose(attended(q, k, v), (0, 2, 1, 3)), (-1, 5, 12))
    return keras.Model(i, finished(x, y))


def fused_stacked() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i)
    qkv = ops.reshape(layers.Dense(36, name="qkv")(x), (-1, 5, 3, 3, 4))
    qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
    y = ops.transpose(attended(qkv[0], qkv[1], qkv[2]), (0, 2, 1, 3))
    return keras.Model(i, finished(x, ops.reshape(y, (-1, 5, 12))))


def fused_split() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i)
    parts = ops.split(layers.Dense(36, name="qkv")(x), 3, axis=-1)
    q, k, v = (ops.swapaxes(ops.reshape(p, (-1, 5, 3, 4)), 1, 2) for p in parts)
    y = ops.reshape(ops.swapaxes(attended(q, k, v), 1, 2), (-1, 5, 12))
    return keras.Model(i, finished(x, y))


def fused_sliced() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i)
    qkv = ops.reshape(layers.Dense(36, name="qkv")(x), (-1, 5, 3, 12))
    q, k, v = (ops.reshape(qkv[:, :, n], (-1, 5, 3, 4)) for n in range(3))
    scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.5
    y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v)
    return keras.Model(i, finished(x, ops.reshape(y, (-1, 5, 12))))


def dot_product_attention() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i)
    q = ops.reshape(layers.Dense(16)(x), (-1, 5, 4, 4))
    k, v = (ops.reshape(layers.Dense(16)(x), (-1, 5, 4, 4)) for _ in range(2))
    y = ops.reshape(ops.dot_product_attention(q, k, v, bias=numbers(1, 4, 5, 5)), (-1, 5, 16))
    x = layers.Dense(6)(y)
    q = ops.reshape(layers.Dense(24)(x), (-1, 5, 6, 4))
    k, v = (ops.reshape(layers.Dense(12)(x), (-1, 5, 3, 4)) for _ in range(2))
    y = ops.dot_product_attention(q, k, v)
    return keras.Model(i, layers.Dense(2)(ops.reshape(y, (-1, 5, 24))))


def window_attention() -> Any:
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1)(i)
    w = ops.reshape(x, (-1, 2, 2, 2, 2, 6))
    w = ops.reshape(ops.transpose(w, (0, 1, 3, 2, 4, 5)), (-1, 4, 6))
    q, k, v = (
        ops.transpose(ops.reshape(layers.Dense(6)(w), (-1, 4, 2, 3)), (0, 2, 1, 3))
        for _ in range(3)
    )
    y = ops.reshape(ops.transpose(attended(q, k, v), (0, 2, 1, 3)), (-1, 4, 6))
    y = ops.reshape(layers.Dense(6)(y), (-1, 2, 2, 2, 2, 6))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 4, 4, 6))
    return keras.Model(i, layers.Dense(2)(ops.max(x + y, axis=(1, 2))))


def vision_transformer() -> Any:
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, strides=3)(i)
    x = ops.reshape(x, (-1, 4, 8))
    token = ops.mean(x, axis=1, keepdims=True) * 0.0 + numbers(8, seed=1)
    x = ops.concatenate([token, x], axis=1) + numbers(1, 5, 8)
    y = layers.LayerNormalization()(x)
    q, k, v = (ops.reshape(layers.Dense(8)(y), (-1, 5, 2, 4)) for _ in range(3))
    scores = ops.einsum("bqhd,bkhd->bhqk", q, k)
    y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores * 0.5), v)
    x = x + layers.Dense(8)(ops.reshape(y, (-1, 5, 8)))
    return keras.Model(i, layers.Dense(2)(x[:, 0]))


def shuffle() -> Any:
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 1)(i)
    x = ops.transpose(ops.reshape(x, (-1, 4, 4, 3, 4)), (0, 1, 2, 4, 3))
    x = ops.relu(ops.reshape(x, (-1, 4, 4, 12)))
    return keras.Model(i, layers.Dense(2)(ops.mean(layers.Conv2D(6, 2)(x), axis=(1, 2))))


def shuffle_net() -> Any:
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 1)(i)
    for _ in range(2):
        a, b = ops.split(x, 2, axis=-1)
        b = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(6, 1, activation="relu")(b))
        x = ops.concatenate([a, layers.Conv2D(6, 1)(b)], axis=-1)
        x = ops.transpose(ops.reshape(x, (-1, 4, 4, 2, 6)), (0, 1, 2, 4, 3))
        x = ops.reshape(x, (-1, 4, 4, 12))
    return keras.Model(i, layers.Dense(2)(ops.mean(x, axis=[1, 2])))


def unequal_parts() -> Any:
    i = keras.Input((5,))
    a, b, c = ops.split(layers.Dense(12, name="made")(i), [3, 7], axis=-1)
    a, c = layers.Dense(4, activation="relu")(a), ops.tanh(c)
    return keras.Model(i, layers.Dense(2)(ops.concatenate([a, ops.square(b), c], axis=-1)))


def squeeze_excite_ops() -> Any:
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(10, 3, padding="same")(i)
    g = ops.mean(x, axis=(1, 2))
    g = layers.Dense(10)(layers.Dense(5, activation="relu")(g))
    x = x * ops.expand_dims(ops.expand_dims(ops.sigmoid(g), 1), 1)
    return keras.Model(i, layers.Dense(2)(ops.max(x, axis=(1, 2))))


def cbam() -> Any:
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(i)
    over = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
    x = x * layers.Conv2D(1, 3, padding="same", activation="sigmoid")(ops.concatenate(over, -1))
    return keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def glu() -> Any:
    i = keras.Input((5,))
    a, b = ops.split(layers.Dense(16)(i), 2, axis=-1)
    x = layers.Dense(6)(ops.multiply(a, ops.silu(b)))
    y = layers.Dense(12)(x)
    x = layers.Dense(6)(y[..., :6] * ops.gelu(y[..., 6:])) + x
    return keras.Model(i, layers.Dense(2)(ops.glu(layers.Dense(8)(x))))


def rotary() -> Any:
    i = keras.Input((5, 6))
    x = layers.Dense(8)(i)

    def turned(t: Any) -> Any:
        a, b = t[..., ::2], t[..., 1::2]
        sine, cosine = np.sin(numbers(5, 1)), np.cos(numbers(5, 1))
        pair = ops.stack([a * cosine - b * sine, a * sine + b * cosine], axis=-1)
        return ops.reshape(pair, (-1, 5, 8))

    q, k = turned(layers.Dense(8)(x)), turned(layers.Dense(8)(x))
    scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, 1, 2)) / 3.0)
    return keras.Model(i, finished(x, ops.matmul(scores, layers.Dense(6)(x))))


def constants() -> Any:
    i = keras.Input((4, 5))
    x = layers.Dense(9)(i) * numbers(9) + ops.convert_to_tensor(numbers(1, 9, seed=2))
    x = ops.where(x > numbers(4, 9, seed=3), x, 0.1 * x)
    x = ops.concatenate([x, 0.0 * x[..., :1] + numbers(4, 1)], axis=-1)
    x = ops.clip(x, -3.0, 3.0) ** 2
    return keras.Model(i, layers.Dense(2)(ops.tensordot(x, numbers(10, 6), axes=1)[:, -1]))


def pixel_shuffle() -> Any:
    i = keras.Input((3, 3, 2))
    x = layers.Conv2D(12, 3, padding="same")(i)
    x = ops.transpose(ops.reshape(x, (-1, 3, 3, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
    x = layers.Conv2D(16, 1)(ops.relu(ops.reshape(x, (-1, 6, 6, 3))))
    x = layers.Conv2D(4, 3)(ops.depth_to_space(x, 2))
    return keras.Model(i, layers.Conv2D(1, 1)(ops.space_to_depth(x, 2)))


def residual_ops() -> Any:
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same")(i)
    for _ in range(2):
        x = ops.relu(x + layers.Conv2D(8, 3, padding="same")(ops.relu(x)))
    x = ops.average_pool(ops.max_pool(x, 2), 3)
    x = ops.squeeze(ops.image.resize(x, (1, 1)), axis=(1, 2))
    return keras.Model(i, layers.Dense(2)(ops.normalize(x, axis=-1)))


def moved() -> Any:
    i = keras.Input((4, 5))
    x = layers.Dense(8)(i)
    x = ops.flip(ops.moveaxis(x, 1, 2), axis=1)
    x = ops.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=0.5)
    x = ops.concatenate([ops.repeat(x, 2, axis=1), ops.tile(x, (1, 2, 1))[:, ::-1]], axis=1)
    x = ops.take(ops.rot90(x, 1, (1, 2)), np.array([5, 2, 20, 9, 9, 1, 40, -4]), axis=2)
    x = ops.roll(x, 1, axis=1) + ops.cumsum(x, axis=1)
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def reduced() -> Any:
    i = keras.Input((4, 5))
    x = layers.Dense(9)(i)
    over = [ops.std(x, axis=-1), ops.logsumexp(x, axis=-1), ops.norm(x, axis=-1), ops.min(x, -1)]
    x = ops.stack([*over, ops.prod(ops.tanh(x), axis=2), ops.median(x, axis=-1)], axis=-1)
    mean, variance = ops.moments(layers.Dense(7)(x), axes=(1, 2))
    y = layers.Dense(7)(ops.layer_normalization(layers.Dense(6)(x), numbers(6), numbers(6), -1))
    y = ops.rms_normalization(y, ops.convert_to_tensor(numbers(7)), axis=-1)
    return keras.Model(i, [layers.Dense(2)(y), ops.stack([mean, variance], axis=1)])


def dotted() -> Any:
    i = keras.Input((4, 5))
    a, b = layers.Dense(8)(i), layers.Dense(8)(i)
    x = layers.Dot(axes=(2, 2), normalize=True)([a, b])
    y = layers.Dot(axes=1)([layers.Dense(6)(x), layers.Dense(7)(a)])
    z = layers.Dot(axes=-1)([ops.max(a, 1), ops.min(b, 1)])
    return keras.Model(i, [layers.Dense(2)(y), layers.Dense(2)(z)])


def in_windows() -> Any:
    """Operations in a nested model that is called twice."""
    j = keras.Input((4, 6))
    inner = keras.Model(j, ops.relu(layers.Dense(6)(j)[:, 1:] * numbers(6)), name="inner")
    i = keras.Input((6, 5))
    x = layers.Dense(6)(i)
    return keras.Model(i, layers.Dense(2)(inner(x[:, :4]) + inner(x[:, 2:])))


ZOO: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            transformer,
            fused_stacked,
            fused_split,
            fused_sliced,
            dot_product_attention,
            window_attention,
            vision_transformer,
            shuffle,
            shuffle_net,
            unequal_parts,
            squeeze_excite_ops,
            cbam,
            glu,
            rotary,
            constants,
            pixel_shuffle,
            residual_ops,
            moved,
            reduced,
            dotted,
            in_windows,
        )
    }
)
HEADS = (
    "transformer",
    "fused_stacked",
    "fused_split",
    "fused_sliced",
    "dot_product_attention",
    "window_attention",
    "vision_transformer",
)
