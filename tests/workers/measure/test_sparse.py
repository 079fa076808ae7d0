"""Dense kernels as sparse rows: which layers, and what the figures mean."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.metrics import Metrics
from tests.workers.orders import make_order
from workers.measure import sparse
from workers.measure.sparse import time_sparse
from workers.protocol import Reporter
from workers.run import run


def model(zeros: float) -> Any:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((256,)), keras.layers.Dense(128, name="wide")], name="inner"
    )
    layers = [inner, keras.layers.Dense(8, name="small"), keras.layers.Dense(2, name="last")]
    made = keras.Sequential([keras.Input((256,)), *layers])
    for variable in made.weights:
        if len(variable.shape) == 2:
            value = np.array(variable)
            value[np.random.default_rng(0).random(value.shape) < zeros] = 0.0
            variable.assign(value)
    return made


def test_large_layers_with_zeros_are_timed(tmp_path: Path) -> None:
    ((name, figure),) = time_sparse(model(0.9), tmp_path, 0).items()
    assert name == "inner/wide"
    assert figure.sparsity == pytest.approx(0.9, abs=0.01)
    low, high = figure.speed_up_interval
    assert 0 < low <= figure.speed_up <= high
    assert figure.dense_ms > 0
    assert figure.sparse_ms > 0
    assert time_sparse(model(0.0), tmp_path, 0) == {}


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    # Times of a sparse product over the dense one's: what a call costs, and what all entries do.
    [(0.2, 4.0, 0.8), (0.5, 1.0, 0.5), (0.0, 0.5, 0.0), (1.5, 4.0, None), (1.5, 0.0, None)],
)
def test_the_break_even_is_where_both_take_as_long(
    monkeypatch: pytest.MonkeyPatch, fixed: float, each: float, expected: float | None
) -> None:
    kernel = np.zeros((256, 256), np.float32)

    def compared(dense: Any, entries: float, *_: Any) -> Any:
        return np.ones(9), np.full(9, fixed + each * entries)

    monkeypatch.setattr(sparse, "compare", compared)

    def share(pattern: Any, _: Any) -> float:
        return float(np.count_nonzero(pattern)) / pattern.size

    monkeypatch.setattr(sparse, "_sparse_call", share)
    random = np.random.default_rng(0)
    found = sparse._break_even(kernel, kernel[0], lambda: None, random)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_sparse_litert_files_are_run_and_timed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    made = keras.Sequential(
        [keras.Input((256,)), keras.layers.Dense(256, activation="relu"), keras.layers.Dense(4)]
    )
    made.save(tmp_path / "m.keras")
    np.savez(
        tmp_path / "d.npz", x=random.random((64, 256), np.float32), y=random.integers(0, 4, 64)
    )
    spec = {
        "dataset": "dts_1",
        "prune": {
            "granularity": {"kind": "block", "shape": [4, 1]},
            "target": {"kind": "fraction", "remove": 0.9},
            "shrink": False,
        },
        "fine_tune": None,
        "evaluate": {"latency": {"runtimes": ["litert"], "batch_sizes": [1], "repeats": 5}},
        "exports": ["keras", "litert", "litert_sparse"],
    }
    order = make_order(tmp_path / "m.keras", tmp_path, spec, data=tmp_path / "d.npz")
    found, names = run(order, Reporter(io.StringIO()))
    metrics = Metrics.model_validate(found)
    assert [one.runtime for one in metrics.after.latency] == ["litert", "litert_sparse"]
    # A tenth of the weights, and where they are.
    assert metrics.after.bytes["litert_sparse"] < 0.25 * metrics.after.bytes["litert"]
    assert metrics.before.bytes["litert_sparse"] == pytest.approx(
        metrics.before.bytes["litert"], rel=0.05
    )
    assert "model_sparse.tflite" in names
    difference = metrics.files["litert_sparse"].difference
    assert difference is not None
    assert difference < 1e-5
    assert set(metrics.after.memory_bytes) == {"litert", "litert_sparse"}
    assert 0 < metrics.after.zstd_bytes["keras"] < metrics.after.bytes["keras"]
