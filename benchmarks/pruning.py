"""One cut of one model, with all that a table says of it."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRESH = """
import sys, numpy as np, keras
if sys.argv[2:]:
    import keras_hub
model = keras.models.load_model(sys.argv[1])
random, given = np.random.default_rng(0), []
for tensor in model.inputs:
    shape = [2, *(axis or 32 for axis in tensor.shape[1:])]
    whole = "int" in tensor.dtype
    given.append(np.ones(shape) if whole else random.standard_normal(shape).astype("float32"))
outputs = keras.tree.flatten(model(given))
model = keras.Model(model.inputs, model.outputs)
model.compile("sgd", ["mse"] * len(outputs))
losses = model.train_on_batch(given, [np.zeros(each.shape, "float32") for each in outputs])
assert np.isfinite(np.ravel(losses)).all(), losses
"""


@dataclass(frozen=True)
class Pruned:
    """What became of a model."""

    model: Any
    seconds: float
    """Of choosing and surgery."""
    difference: float
    """From the masked original, as a share of the outputs' scale."""
    equal: bool
    macs: tuple[int, int]
    """Before and after."""
    smaller: bool
    """As foreseen, and by MACs."""
    error: str | None
    """What loading and training it in a fresh process said; None where that went well."""


def pruned(model: Any, asked: dict[str, Any], *, hub: bool = False) -> Pruned:
    """Cut, prove, save, and load and train in a fresh process.

    Args:
        model: the model.
        asked: the spec's `prune`.
        hub: whether the result needs KerasHub to load.
    """
    from app.domain.prune import Prune
    from workers import engine

    started = time.perf_counter()
    cut = engine.choose(model, Prune.model_validate(asked))
    reduced = engine.apply(model, cut)
    seconds = time.perf_counter() - started
    proof = engine.prove(model, reduced, cut)
    before, after = engine.count(model), engine.count(reduced)
    return Pruned(
        model=reduced,
        seconds=seconds,
        difference=proof.relative,
        equal=proof.holds,
        macs=(before.macs, after.macs),
        smaller=engine.predict(model, cut) == after and after.macs < before.macs,
        error=_reloaded(reduced, hub),
    )


def _reloaded(model: Any, hub: bool) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        command = [sys.executable, "-c", FRESH, str(path), *(["keras_hub"] if hub else [])]
        fresh = subprocess.run(command, capture_output=True, text=True)
    if fresh.returncode == 0:
        return None
    return (fresh.stderr.strip().splitlines() or ["no output"])[-1][:200]
