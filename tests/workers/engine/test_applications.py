"""A dozen models of keras.applications on small images; benchmarks/coverage.py prunes all forty."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.prune import Prune
from tests.workers.engine.zoo import randomise
from workers.engine import apply, choose, count, predict, prove

NAMES = {
    "VGG16": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "InceptionV3": 75,
    "Xception": 71,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "DenseNet121": 32,
    "ConvNeXtTiny": 32,
}
HALF = Prune.model_validate({"target": {"kind": "fraction", "remove": 0.5}})


# Plain, residual, of inverted residuals with squeeze and excitation, and of layer normalisations.
QUICK = ("VGG16", "ResNet50V2", "MobileNetV3Small", "ConvNeXtTiny")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_half_of_the_channels_go(name: str, tmp_path: Path) -> None:
    shape = (NAMES[name], NAMES[name], 3)
    model = randomise(
        getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10)
    )
    cut = choose(model, HALF)
    reduced = apply(model, cut)
    assert prove(model, reduced, cut).holds
    after = count(reduced)
    assert predict(model, cut) == after
    assert after.macs < 0.6 * count(model).macs
    reduced.save(tmp_path / "model.keras")
    loaded: Any = keras.models.load_model(tmp_path / "model.keras")
    assert count(loaded) == after
    x = np.random.default_rng(0).uniform(0.0, 255.0, (2, *shape)).astype("float32")
    np.testing.assert_allclose(loaded(x), reduced(x), atol=1e-5)
