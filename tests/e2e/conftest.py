"""One service for the tests that leave it as they found it; models and data made once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.service import Service, serve


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with short leases."""
    folder = tmp_path_factory.mktemp("service")
    with serve(folder, LEASE_SECONDS="4", REAPER_INTERVAL_SECONDS="0.5") as running:
        yield running


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with models and data, described by `make_files`."""
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return folder


def blobs(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes of noisy 8x8 patterns, [n, 8, 8] float32 and labels."""
    patterns = np.random.default_rng(7).standard_normal((4, 8, 8))
    random = np.random.default_rng(seed)
    y = random.integers(0, 4, samples)
    x = patterns[y] + 1.2 * random.standard_normal((samples, 8, 8))
    return x.astype(np.float32), y.astype(np.uint8)


def make_files(folder: Path) -> None:
    """data.npz; mlp.keras and cnn.keras, trained on it; golden.keras, with the table of weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    x, y = blobs(1200, 0)
    x_test, y_test = blobs(400, 1)
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    np.savez(folder / "wide.npz", x_train=np.zeros((8, 9, 9)), y_train=np.arange(8) % 4)
    mlp = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(48, activation="relu", name="first"),
            layers.Dense(24, activation="relu", name="second"),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    cnn = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", name="conv_1"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, activation="relu", name="conv_2"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="dense"),
            layers.Dense(4, name="logits"),
        ]
    )
    for name, model, shape, logits in (
        ("mlp", mlp, (-1, 64), False),
        ("cnn", cnn, (-1, 8, 8, 1), True),
    ):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
        model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
        model.fit(x.reshape(shape), y, epochs=6, batch_size=64, verbose=0)
        model.save(folder / f"{name}.keras")
    golden = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, use_bias=False, name="table"),
            layers.Dense(1, use_bias=False, name="out"),
        ]
    )
    golden.set_weights([np.array([[6, 3, 9], [1, 5, 7], [4, 8, 2.0]]), np.ones((3, 1))])
    golden.save(folder / "golden.keras")


@pytest.fixture(scope="session")
def uploaded(service: Service, files: Path) -> dict[str, Any]:
    """Ids by name."""
    ids = {
        name: service.upload_model(files / f"{name}.keras")["id"]
        for name in ("mlp", "cnn", "golden")
    }
    return ids | {"data": service.upload_dataset(files / "data.npz")["id"]}
