"""Proof of equality: the reduced model computes what the original computes without the units."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.analysis import Analysis, Kept, analyse
from workers.engine.channels import Reference
from workers.engine.cut import Cut, DepthCut, UnitCut, WeightCut
from workers.engine.depth import removed_blocks
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
    with _silenced(original, cut) as masked:
        expected = _outputs(original, probes, masked)
    return _difference(original, expected, _outputs(reduced, probes))


def prove_same(original: Any, other: Any, *, seed: int = 0) -> Equality:
    """Compare a model with another that is to compute the same of the same inputs."""
    probes = probe_inputs(original, seed)
    return _difference(original, _outputs(original, probes), _outputs(other, probes))


def _difference(original: Any, expected: list[Any], received: list[Any]) -> Equality:
    half = any(
        "16" in str(getattr(layer, "compute_dtype", "")) for _, layer in graph.leaves(original)
    )
    pairs = [
        (_apart(a, b), float(np.abs(a).max(initial=0.0)))
        for a, b in zip(expected, received, strict=True)
    ]
    difference, scale = max(pairs, key=_badness)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    return Equality(difference, scale, SAMPLES, tolerance)


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    # Other shapes might be broadcast to each other.
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf


def _badness(pair: tuple[float, float]) -> float:
    difference, scale = pair
    if difference == 0.0:
        return 0.0
    ratio = difference / scale if scale else np.inf
    return float(np.inf if np.isnan(ratio) else ratio)


def probe_inputs(model: Any, seed: int, length: int = UNKNOWN_LENGTH) -> list[NDArray[Any]]:
    """Random inputs, one array per input of the model: normal numbers, or valid indices.

    Args:
        model: the model.
        seed: of the random numbers.
        length: what axes of unknown length become.
    """
    random = np.random.default_rng(seed)
    return [_probe(model, tensor, random, length) for tensor in model.inputs]


def _probe(model: Any, tensor: Any, random: np.random.Generator, length: int) -> NDArray[Any]:
    shape = (SAMPLES, *(length if s is None else s for s in tensor.shape[1:]))
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


def _outputs(model: Any, probes: list[Any], masked: "Masked | None" = None) -> list[NDArray[Any]]:
    tensors = [keras.ops.convert_to_tensor(probe) for probe in probes]
    return [
        keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))
        for each in execute(model, tensors, masked)
    ]


@dataclass(frozen=True)
class Masked:
    """A cut as the original sees it: which calls count some of their input as removed."""

    references: Mapping[int, Reference]
    """By the `id` of the call."""
    kept: Kept


See = Callable[[Any, list[Any]], None]
"""Told of each call before it runs: its node, and the tensors that it is given."""


def execute(
    model: Any, inputs: list[Any], masked: Masked | None = None, see: See | None = None
) -> list[Any]:
    """Run a model's graph call by call, at inference; flat tensors in and out.

    What nobody reads any more is let go: all values of EfficientNetB7 would need 18 GiB.
    """
    inner = graph.graph_of(model)
    calls = [node for node in graph.calls(model) if node.input_tensors]
    readers = Counter(id(tensor) for node in calls for tensor in node.input_tensors)
    readers.update(id(tensor) for tensor in inner.outputs)
    known = {id(tensor): value for tensor, value in zip(inner.inputs, inputs, strict=True)}
    for node in calls:
        given = [known[id(tensor)] for tensor in node.input_tensors]
        if see is not None:
            see(node, given)
        if masked is not None and id(node) in masked.references:
            outputs = _compared(node, given, masked)
        elif graph.is_graph(node.operation):
            data = given[: len(graph.data_tensors(node))]
            outputs = execute(node.operation, data, masked, see)
        elif masked is not None and _steps_through_graph(node.operation):
            outputs = [_each_step(node.operation.layer, given[0], masked)]
        else:
            outputs = _called(node, given)
        for tensor, value in zip(node.output_tensors, outputs, strict=True):
            known[id(tensor)] = value
        readers.subtract(id(tensor) for tensor in node.input_tensors)
        for tensor in node.input_tensors:
            if not readers[id(tensor)]:
                known.pop(id(tensor), None)
        del given, outputs
    return [known[id(tensor)] for tensor in inner.outputs]


def _steps_through_graph(layer: Any) -> bool:
    return isinstance(layer, keras.layers.TimeDistributed) and graph.is_graph(layer.layer)


def _each_step(model: Any, values: Any, masked: Masked) -> Any:
    """A model at every step of axis 1: all steps of all samples as one batch."""
    batch, steps, *rest = values.shape
    (output,) = execute(model, [keras.ops.reshape(values, (batch * steps, *rest))], masked)
    return keras.ops.reshape(output, (batch, steps, *output.shape[1:]))


def _called(node: Any, values: list[Any]) -> list[Any]:
    filled = {id(tensor): value for tensor, value in zip(node.input_tensors, values, strict=True)}
    args, kwargs = node.arguments.fill_in(filled)
    found: list[Any] = keras.tree.flatten(node.operation(*args, **kwargs))
    return found


def _compared(node: Any, values: list[Any], masked: Masked) -> list[Any]:
    def run(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        for tensor, value in zip(tensors, values, strict=True):
            _keep_mask(value, tensor)
        return [keras.ops.convert_to_numpy(each) for each in _called(node, tensors)]

    arrays = [keras.ops.convert_to_numpy(value) for value in values]
    found = masked.references[id(node)](run, arrays, masked.kept)
    outputs = [keras.ops.convert_to_tensor(array) for array in found]
    for output in outputs[:1]:
        _keep_mask(values[0], output)
    return outputs


def _keep_mask(source: Any, target: Any) -> None:
    """Keras hangs masks on tensors."""
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        try:
            target._keras_mask = mask
        except AttributeError:
            pass


@contextmanager
def _silenced(model: Any, cut: Cut) -> Iterator[Masked | None]:
    """The model with the removed parts zeroed; everything is back afterwards."""
    changed: list[tuple[Any, NDArray[Any]]] = []
    analysis = None if isinstance(cut, WeightCut) else analyse(model)
    masked = None
    if analysis is not None and isinstance(cut, UnitCut):
        masked = Masked(analysis.walk.references, analysis.kept(kept_units(analysis, cut)))
    elif analysis is not None and isinstance(cut, DepthCut):
        masked = Masked(_passed_on(model, cut), analysis.kept(analysis.keep_all()))
    try:
        for variable, mask in _silence(model, cut, analysis, masked):
            values = graph.values(variable)
            changed.append((variable, np.array(values)))
            variable.assign(np.where(mask, values, np.zeros_like(values)))
        yield masked
    finally:
        for variable, values in reversed(changed):
            variable.assign(values)


def _passed_on(model: Any, cut: DepthCut) -> dict[int, Reference]:
    """Joints of blocks that are gone give back what the block was given."""
    found: dict[int, Reference] = {}
    for block in removed_blocks(model, cut):
        tensors = block.joint.input_tensors
        place = next(i for i, tensor in enumerate(tensors) if tensor is block.source)
        found[id(block.joint)] = _gives_back(place)
    return found


def _gives_back(place: int) -> Reference:
    def compute(run: Any, inputs: list[Any], kept: Any) -> list[Any]:
        return [inputs[place]]

    return compute


def _silence(
    model: Any, cut: Cut, analysis: Analysis | None, masked: Masked | None
) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    if isinstance(cut, WeightCut):
        variables = graph.variable_keys(model)
        yield from ((variables[key], mask) for key, mask in cut.masks.items())
    elif analysis is not None and masked is not None:
        for binding in analysis.walk.bindings.values():
            stays = masked.kept(binding.axis)
            if binding.reads and not stays.all():
                view = [1] * len(binding.variable.shape)
                view[binding.number] = stays.size
                yield binding.variable, stays.reshape(view)
