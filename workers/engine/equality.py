"""Proof of equality: the reduced model computes what the original computes without the units."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.analysis import analyse
from workers.engine.cut import Cut, WeightCut
from workers.engine.prediction import kept_units

SAMPLES = 4
UNKNOWN_LENGTH = 32
"""What an axis of unknown length becomes in a probe."""
TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-2
"""For models that compute in 16 bits."""


@dataclass(frozen=True)
class Equality:
    """How far two models' outputs are apart on random probes, at the worst output."""

    max_abs_difference: float
    output_scale: float
    """Largest absolute output of the original."""
    samples: int
    tolerance: float = TOLERANCE

    @property
    def relative(self) -> float:
        """Difference as a fraction of the scale; 0 where both are 0."""
        if self.max_abs_difference == 0.0:
            return 0.0
        return self.max_abs_difference / self.output_scale if self.output_scale else float("inf")

    @property
    def holds(self) -> bool:
        """Whether the difference is float noise: at most `tolerance` of the scale."""
        return bool(self.max_abs_difference <= self.tolerance * self.output_scale)


def prove(original: Any, reduced: Any, cut: Cut, *, seed: int = 0) -> Equality:
    """Compare a reduced model with the original, whose removed parts are silenced meanwhile.

    For a cut of units the rows that read the removed units are zeroed in the original, for a cut
    of weights the masked weights; both are restored afterwards.
    """
    probes = probe_inputs(original, seed)
    with _silenced(original, cut):
        expected = _outputs(original, probes)
    received = _outputs(reduced, probes)
    half = any("16" in str(getattr(v, "compute_dtype", "")) for v in original.layers)
    pairs = [
        (float(np.abs(a - b).max(initial=0.0)), float(np.abs(a).max(initial=0.0)))
        for a, b in zip(expected, received, strict=True)
    ]
    difference, scale = max(pairs, key=_badness)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    return Equality(difference, scale, SAMPLES, tolerance)


def _badness(pair: tuple[float, float]) -> float:
    difference, scale = pair
    if difference == 0.0:
        return 0.0
    ratio = difference / scale if scale else np.inf
    return float(np.inf if np.isnan(ratio) else ratio)


def probe_inputs(model: Any, seed: int) -> list[NDArray[Any]]:
    """Random inputs, one array per input of the model: normal numbers, or valid indices."""
    random = np.random.default_rng(seed)
    return [_probe(model, tensor, random) for tensor in model.inputs]


def _probe(model: Any, tensor: Any, random: np.random.Generator) -> NDArray[Any]:
    shape = (SAMPLES, *(UNKNOWN_LENGTH if s is None else s for s in tensor.shape[1:]))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    rows = _vocabulary(model, tensor)
    if rows is not None or "int" in dtype:
        return random.integers(0, rows or 2, size=shape).astype(dtype)
    if dtype == "bool":
        return random.random(shape) < 0.5
    return random.standard_normal(shape).astype("float32" if dtype == "bfloat16" else dtype)


def _vocabulary(model: Any, tensor: Any) -> int | None:
    """The smallest vocabulary among the embeddings that a tensor is looked up in, if any."""
    rows: list[int] = []
    for node in graph.calls(model):
        if any(each is tensor for each in node.input_tensors):
            inner: list[Any] = list(getattr(node.operation, "_flatten_layers", list)())
            rows += [e.input_dim for e in inner if isinstance(e, keras.layers.Embedding)]
    return min(rows, default=None)


def _outputs(model: Any, probes: list[NDArray[Any]]) -> list[NDArray[Any]]:
    structure = getattr(model, "_inputs_struct", None)
    fed = probes[0] if structure is None else keras.tree.pack_sequence_as(structure, probes)
    outputs = model(fed, training=False)
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))
        for each in keras.tree.flatten(outputs)
    ]


@contextmanager
def _silenced(model: Any, cut: Cut) -> Iterator[None]:
    """The model with the removed parts zeroed; everything is back afterwards."""
    changed: list[tuple[Any, NDArray[Any]]] = []
    try:
        for variable, mask in _silence(model, cut):
            values = graph.values(variable)
            changed.append((variable, np.array(values)))
            variable.assign(np.where(mask, values, np.zeros_like(values)))
        yield
    finally:
        for variable, values in reversed(changed):
            variable.assign(values)


def _silence(model: Any, cut: Cut) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    if isinstance(cut, WeightCut):
        variables = graph.variable_keys(model)
        yield from ((variables[key], mask) for key, mask in cut.masks.items())
        return
    analysis = analyse(model)
    keep = kept_units(analysis, cut)
    for binding in analysis.walk.bindings.values():
        line = keep[analysis.roots(binding.ids)]
        if binding.reads and not line.all():
            view = [1] * len(binding.variable.shape)
            view[binding.axis] = line.size
            yield binding.variable, line.reshape(view)
