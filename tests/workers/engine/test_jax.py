"""The engine speaks Keras and numpy: its core tests pass on the JAX backend as well."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

from app.domain.spec import Prune
from tests.workers.engine.zoo import ZOO, randomise
from tests.workers.engine.zoo_blocks import BLOCKS
from workers.engine import apply, choose, count, predict, prove

assert keras.backend.backend() == "jax"
assert "tensorflow" not in sys.modules
target = {"kind": "fraction", "remove": 0.5}
for build in (ZOO["depthwise"], BLOCKS["vit"], BLOCKS["grouped"], BLOCKS["nested"]):
    model = randomise(build())
    for granularity in ("channel", "weight"):
        cut = choose(model, Prune.model_validate({"granularity": granularity, "target": target}))
        reduced = apply(model, cut)
        assert prove(model, reduced, cut).holds, (build.__name__, granularity)
        assert predict(model, cut) == count(reduced)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        reduced.save(path)
        assert prove(model, keras.models.load_model(path), cut).holds
    print("held", build.__name__)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed (it is in requirements/dev)",
)
def test_the_core_holds_on_jax() -> None:
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # Each model runs a few times: to compile it well takes longer than to run it.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, "-c", CORE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("held") == 4
