"""Where zeros would make a layer faster: Dense kernels in compressed sparse rows, timed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from app.domain.metrics import SparseFigure
from workers.engine.graph import leaves, values
from workers.exports.formats import write
from workers.measure.latency import Call, compare, litert_call, speed_up

Array = NDArray[Any]

LEAST_ENTRIES = 2**14
"""Of a kernel; smaller ones are done before a sparse product has begun."""
MOST_LAYERS = 8
"""The largest ones are timed."""
REPEATS = 200
SECONDS = 1.0
"""For all calls of one comparison."""
PATTERNS = (0.5, 0.9, 0.99)
"""Sparsities of the random patterns that the break-even is found by."""


def time_sparse(model: Any, scratch: Path, seed: int) -> dict[str, SparseFigure]:
    """Each large Dense layer beside its kernel in compressed sparse rows, by the layer's path.

    Args:
        model: with zeros in its kernels.
        scratch: a folder for files.
        seed: of inputs and patterns.
    """
    found = sorted(_large(model), key=lambda pair: -pair[1].size)[:MOST_LAYERS]
    return {name: _timed(kernel, scratch, seed) for name, kernel in found}


def _large(model: Any) -> Iterator[tuple[str, Array]]:
    for name, layer in leaves(model):
        if type(layer) is keras.layers.Dense and layer.quantization_mode is None:
            kernel = np.asarray(values(layer.kernel), dtype=np.float32)
            if kernel.size >= LEAST_ENTRIES and not kernel.all():
                yield name, kernel


def _timed(kernel: Array, scratch: Path, seed: int) -> SparseFigure:
    random = np.random.default_rng(seed)
    x = random.standard_normal((kernel.shape[0],), dtype=np.float32)
    dense = _dense_call(kernel, x, scratch)
    theirs, mine = compare(dense, _sparse_call(kernel, x), REPEATS, SECONDS)
    times, interval = speed_up(theirs, mine)
    return SparseFigure(
        sparsity=1.0 - float(np.count_nonzero(kernel)) / kernel.size,
        dense_ms=1e3 * float(np.median(theirs)),
        sparse_ms=1e3 * float(np.median(mine)),
        speed_up=times,
        speed_up_interval=interval,
        break_even=_break_even(kernel, x, dense, random),
    )


def _break_even(kernel: Array, x: Array, dense: Call, random: np.random.Generator) -> float | None:
    """Where ratio = a + b · entries, by least squares over random patterns, is one."""
    entries, ratios = [], []
    for sparsity in PATTERNS:
        pattern = (random.random(kernel.shape) >= sparsity).astype(np.float32)
        theirs, mine = compare(dense, _sparse_call(pattern, x), REPEATS // 2, SECONDS / 2)
        entries.append(np.count_nonzero(pattern) / kernel.size)
        ratios.append(1.0 / speed_up(theirs, mine)[0])
    slope, start = np.polyfit(entries, ratios, 1)
    # At most so many entries; without any left, calling alone may take longer.
    if slope <= 0:
        # How many there are makes no difference, or noise hides it.
        return 0.0 if float(np.mean(ratios)) < 1.0 else None
    most = (1.0 - start) / slope
    return float(1.0 - min(most, 1.0)) if most > 0 else None


def _dense_call(kernel: Array, x: Array, scratch: Path) -> Call:
    inputs, units = kernel.shape
    layer = keras.layers.Dense(units, use_bias=False)
    model = keras.Sequential([keras.Input((inputs,), name="x"), layer])
    layer.kernel.assign(kernel)
    folder = scratch / "sparse"
    folder.mkdir(exist_ok=True)
    return litert_call(write(model, "litert", folder), {"x": x[None]})


def _sparse_call(kernel: Array, x: Array) -> Call:
    rows = csr_array(kernel.T)
    return lambda: rows @ x
