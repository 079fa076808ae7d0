"""Small models, one per pattern that the engine must understand; weights random from a seed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers

from app.domain.prune import Prune
from workers.engine import UnitCut, choose


def randomise(model: Any, seed: int = 0) -> Any:
    """Random numbers in every weight, normalisation statistics included."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if str(variable.dtype).startswith("float"):
            values = random.standard_normal(tuple(variable.shape)) * 0.3
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values)
    return model


def cut_units(model: Any, spec: Prune, seed: int = 0) -> UnitCut:
    """`choose`, known to be a cut of units."""
    cut = choose(model, spec, seed=seed)
    assert isinstance(cut, UnitCut)
    return cut


def mlp() -> Any:
    return keras.Sequential(
        [
            keras.Input((20,), name="pixels"),
            layers.Dense(30, activation="relu", name="dense_1"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="relu", name="dense_2"),
            layers.Dense(4, activation="softmax", name="predictions"),
        ]
    )


def unnamed() -> Any:
    model = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2)])
    model.build((None, 5))
    return model


def lenet(first: int = 6, second: int = 16, dense: int = 20, side: int = 12) -> Any:
    return keras.Sequential(
        [
            keras.Input((side, side, 1)),
            layers.Conv2D(first, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(second, 3, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(dense, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def residual() -> Any:
    def normed(x: Any, filters: int) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    i = keras.Input((8, 8, 3))
    x = layers.ReLU()(normed(i, 8))
    for filters in (8, 12):
        skip = x if filters == 8 else layers.Conv2D(filters, 1)(x)
        y = layers.ReLU()(normed(x, filters))
        y = normed(y, filters)
        x = layers.ReLU()(layers.Add()([skip, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(i, layers.Dense(5)(x))


def dense_block() -> Any:
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(6, 3, padding="same")(i)
    for _ in range(2):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same")(y)])
    x = layers.GlobalMaxPooling2D()(layers.LeakyReLU()(x))
    return keras.Model(i, layers.Dense(3)(x))


def depthwise() -> Any:
    i = keras.Input((9, 9, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(i)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(10, 1)(x)
    x = layers.SeparableConv2D(6, 2, depth_multiplier=2, padding="same")(layers.PReLU()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Reshape((-1,))(layers.Conv2D(7, 1)(x))
    return keras.Model(i, layers.Activation("softmax")(layers.Dense(4)(x)))


def generator() -> Any:
    i = keras.Input((5,))
    x = layers.Dense(3 * 3 * 8)(i)
    x = layers.LeakyReLU()(layers.Reshape((3, 3, 8))(x))
    x = layers.UpSampling2D()(layers.Conv2DTranspose(6, 3, padding="same")(x))
    x = layers.Cropping2D(1)(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    return keras.Model(i, layers.Conv2D(1, 3, activation="tanh")(x))


def squeeze_excite() -> Any:
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(12, 3, activation="relu")(i)
    g = layers.GlobalAveragePooling2D()(x)
    g = layers.Reshape((1, 1, 12))(g)
    g = layers.Conv2D(3, 1, activation="silu")(g)
    g = layers.Conv2D(12, 1, activation="sigmoid")(g)
    x = layers.Multiply()([x, g])
    a = layers.Conv2D(1, 1, activation="sigmoid")(x)
    x = layers.Multiply()([a, x])
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def siamese() -> Any:
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((8, 8, 1), name="b")
    tower = [
        layers.Conv2D(6, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Conv2D(5, 3),
        layers.Flatten(),
        layers.Dense(7, activation="relu"),
    ]
    x, y = a, b
    for layer in tower:
        x, y = layer(x), layer(y)
    z = layers.Concatenate()([layers.Subtract()([x, y]), layers.Maximum()([x, y])])
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid")(z))


def two_in_two_out() -> Any:
    image, facts = keras.Input((6, 6, 1), name="image"), keras.Input((4,), name="facts")
    x = layers.Flatten()(layers.Conv2D(5, 3, activation="relu")(image))
    x = layers.Average()([layers.Dense(9)(x), layers.Dense(9)(facts)])
    x = layers.Dense(8, activation="elu")(x)
    return keras.Model(
        {"image": image, "facts": facts},
        {"kind": layers.Dense(3, name="kind")(x), "size": layers.Dense(1, name="size")(x)},
    )


def variable_length() -> Any:
    i = keras.Input((None, 4))
    x = layers.Conv1D(8, 3, activation="relu")(i)
    x = layers.MaxPooling1D()(layers.SpatialDropout1D(0.1)(x))
    x = layers.DepthwiseConv1D(3)(layers.ZeroPadding1D(1)(x))
    x = layers.Conv1D(6, 3, dilation_rate=2, padding="causal")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(i, layers.Dense(2)(x))


def text() -> Any:
    i = keras.Input((7,))
    x = layers.Embedding(11, 6)(i)
    x = layers.Conv1D(8, 2, activation="relu")(x)
    x = layers.Dense(5)(layers.LSTM(4)(layers.Dense(6)(x)))
    return keras.Model(i, layers.Dense(2)(x))


def shuffled() -> Any:
    i = keras.Input((4, 4, 2))
    x = layers.Conv2D(12, 1)(i)
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 3, 4))(x))
    x = layers.Conv2D(6, 2)(layers.Reshape((4, 4, 12))(x))
    x = layers.Reshape((9, 6))(x)
    x = layers.RepeatVector(2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def not_understood() -> Any:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu")])
    i = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3)(i)
    x = layers.Conv2D(8, 3, groups=2)(x)
    x = layers.LayerNormalization()(layers.Conv2D(6, 1)(x))
    x = layers.Dense(6)(layers.Dense(9)(layers.Flatten()(x)))
    x = layers.Dense(6, activation="softmax")(layers.Dense(8)(inner(x) * 2.0))
    return keras.Model(i, layers.Dense(2)(x))


ZOO: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            mlp,
            unnamed,
            lenet,
            residual,
            dense_block,
            depthwise,
            generator,
            squeeze_excite,
            siamese,
            two_in_two_out,
            variable_length,
            text,
            shuffled,
            not_understood,
        )
    }
)
