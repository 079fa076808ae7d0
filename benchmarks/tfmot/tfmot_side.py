"""The toolkit's side: gradual magnitude pruning as its guide does it. Runs in .venv-tfmot.

`python tfmot_side.py WEIGHTS.npz DATA.npz OUT --remove 0.9167 --epochs 98`: prints JSON.
[https://www.tensorflow.org/model_optimization/guide/pruning/pruning_with_keras]
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

BATCH = 128


def network() -> Any:
    """LeNet-300-100, as the other side's."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(300, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    """Prune, train, strip, write every file that the guide writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--remove", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    asked = parser.parse_args()
    with np.load(asked.data, allow_pickle=False) as stored:
        digits = {key: stored[key] for key in stored.files}
    x, y = digits["x_train"].astype("float32") / 255.0, digits["y_train"]
    test = digits["x_test"].astype("float32") / 255.0, digits["y_test"]
    model = network()
    with np.load(asked.weights, allow_pickle=False) as stored:
        model.set_weights([stored[f"w{place}"] for place in range(len(stored.files))])
    before = accuracy(model, *test)
    steps = asked.epochs * -(-len(x) // BATCH)
    pruned = tfmot.sparsity.keras.prune_low_magnitude(
        model,
        pruning_schedule=tfmot.sparsity.keras.PolynomialDecay(
            0.0, asked.remove, 0, int(0.7 * steps)
        ),
    )
    rate = tf.keras.optimizers.schedules.CosineDecay(1e-3, steps)
    pruned.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    started = time.monotonic()
    pruned.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=asked.epochs,
        verbose=0,
        callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
    )
    minutes = (time.monotonic() - started) / 60.0
    stripped = tfmot.sparsity.keras.strip_pruning(pruned)
    kernels = [one for one in stripped.get_weights() if one.ndim > 1]
    found = {
        "accuracy_before": before,
        "accuracy": accuracy(stripped, *test),
        "weights": sum(one.size for one in kernels),
        "nonzero": sum(int(np.count_nonzero(one)) for one in kernels),
        "minutes": minutes,
        "files": written(stripped, asked.out),
    }
    print(json.dumps(found))


def accuracy(model: Any, x: Any, y: Any) -> float:
    """On the test digits."""
    return float((model.predict(x, batch_size=1000, verbose=0).argmax(axis=1) == y).mean())


def written(model: Any, out: Path) -> dict[str, list[int]]:
    """Bytes of each file, raw and gzipped."""
    model.save(out / "tfmot.keras")
    for name, optimizations in (("tfmot", []), ("tfmot_sparse", ["EXPERIMENTAL_SPARSITY"])):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [getattr(tf.lite.Optimize, each) for each in optimizations]
        (out / f"{name}.tflite").write_bytes(converter.convert())
    return {
        file.name: [file.stat().st_size, len(gzip.compress(file.read_bytes()))]
        for file in (out / each for each in ("tfmot.keras", "tfmot.tflite", "tfmot_sparse.tflite"))
    }


if __name__ == "__main__":
    main()
