"""What a user would write without Secateur: load, drop half the units, fine-tune, save.

`prepare DIR` trains the model; `run DIR EPOCHS` prunes it and prints its accuracy and seconds.
The same work as a job's: evaluation before, after the cut and at the end, validation each epoch.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

from workers.demo import digits, mlp

IMPORTED = time.perf_counter()


def prepare(folder: Path) -> None:
    """Write data.npz and model.keras."""
    keras.utils.set_random_seed(0)
    data = digits()
    np.savez(folder / "data.npz", **data)
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data["x_train"].reshape(-1, 784) / 255.0, data["y_train"], epochs=5, verbose=0)
    model.save(folder / "model.keras")


def halve(model: keras.Model) -> keras.Model:
    """Keep the half of each hidden layer's units with the largest norms."""
    (w1, b1), (w2, b2), (w3, b3) = (layer.get_weights() for layer in model.layers)
    keep = [np.sort(np.argsort(np.linalg.norm(w, axis=0))[w.shape[1] // 2 :]) for w in (w1, w2)]
    small = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(len(keep[0]), activation="relu"),
            keras.layers.Dense(len(keep[1]), activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    small.set_weights(
        [
            w1[:, keep[0]],
            b1[keep[0]],
            w2[np.ix_(keep[0], keep[1])],
            b2[keep[1]],
            w3[keep[1]],
            b3,
        ]
    )
    return small


def run(folder: Path, epochs: int) -> None:
    """Prune, fine-tune, evaluate, save."""
    data = np.load(folder / "data.npz")
    x = data["x_train"].reshape(-1, 784).astype(np.float32) / 255
    x_test = data["x_test"].reshape(-1, 784).astype(np.float32) / 255
    cut = len(x) * 9 // 10
    validation = (x[cut:], data["y_train"][cut:])
    original = keras.models.load_model(folder / "model.keras")
    original.evaluate(x_test, data["y_test"], verbose=0)
    model = halve(original)
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    model.evaluate(x_test, data["y_test"], verbose=0)
    model.fit(
        x[:cut],
        data["y_train"][:cut],
        validation_data=validation,
        epochs=epochs,
        batch_size=128,
        verbose=0,
    )
    _, accuracy = model.evaluate(x_test, data["y_test"], verbose=0)
    model.save(folder / "bare.keras")
    print(
        json.dumps({"accuracy": accuracy, "seconds_after_import": time.perf_counter() - IMPORTED})
    )


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        run(Path(sys.argv[2]), int(sys.argv[3]))
