"""What a layer's `call` does, written down as calls of the layers and operations it uses.

A layer is called with symbolic tensors. Axes of unknown length get lengths of their own, prime
numbers that divide no size of the layer, so that a length in a recorded setting is known again.
Only code of Keras and KerasHub is ever called like this.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.backend import compute_output_spec
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

GIVE_NONE = frozenset({"DeiTEncoderBlock", "GPTNeoXAttention", "T5MultiHeadAttention"})
"""Classes of KerasHub whose outputs hold a None (an empty cache)."""
PRIMES = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179)
CONSTANT = 4096
"""Entries of the largest array that may be written into a model's settings."""


def is_hub(layer: Any) -> bool:
    """Whether a layer's or function's code comes with KerasHub."""
    kind = layer if inspect.isfunction(layer) else type(layer)
    return str(kind.__module__).split(".")[0] == "keras_hub"


class CannotInline(Exception):
    """Raised where a layer has to stay as it is; its text is the reason."""


def words(error: Exception, most: int = 160) -> str:
    """The beginning of an error's text, without line breaks and colours."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:most]


@dataclass(frozen=True)
class Lengths:
    """Stand-ins for the number of samples and for any other unknown length."""

    batch: int
    other: int

    def of(self, size: Any) -> bool:
        """Whether a number is made of one of them."""
        whole = isinstance(size, int) and not isinstance(size, bool) and size > 0
        return whole and (size % self.batch == 0 or size % self.other == 0)

    def within(self, value: Any) -> bool:
        """Whether a nested setting holds a number made of one of them."""
        if isinstance(value, Mapping):
            return any(self.within(each) for each in value.values())
        if isinstance(value, list | tuple):
            return any(self.within(each) for each in value)
        if isinstance(value, slice):
            return self.within((value.start, value.stop, value.step))
        return self.of(value)


@dataclass(frozen=True)
class Trace:
    """The calls behind some outputs, first to last."""

    nodes: tuple[Any, ...]
    outputs: Any
    """The outputs' structure, of symbolic tensors."""
    given: Mapping[int, Any]
    """The tensor that each placeholder stands for, by the placeholder's `id`."""
    positions: Any
    """Stands for 0, 1, … along the first unknown length; None where nothing asked for it."""
    lengths: Lengths


def trace(
    layer: Any, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Trace:
    """Call with placeholders and write down what happens.

    Args:
        layer: the layer whose code `call` is, for its weights.
        call: its `call`, or a function like an activation.
        args: as the call is given them, with symbolic tensors.
        kwargs: likewise.

    Raises:
        CannotInline: the code does not take symbolic tensors, or what it does is no plain graph.
    """
    lengths = _lengths(layer, keras.tree.flatten((args, kwargs)))
    given: dict[int, Any] = {}
    stand_ins: dict[int, Any] = {}
    alive: list[Any] = []  # An id is only good while its tensor lives.

    def stand_in(tensor: Any) -> Any:
        if not isinstance(tensor, keras.KerasTensor):
            return tensor
        if id(tensor) not in stand_ins:
            found = keras.KerasTensor(_shape(tensor.shape, lengths), dtype=tensor.dtype)
            stand_ins[id(tensor)] = found
            given[id(found)] = tensor
            alive.append(found)
        return stand_ins[id(tensor)]

    args, kwargs = keras.tree.map_structure(stand_in, (list(args), dict(kwargs)))
    asked: list[Any] = []
    with _forgotten(layer), _by_their_code(layer), _unknown_lengths(lengths, asked):
        try:
            with warnings.catch_warnings(action="ignore"):
                outputs = call(*args, **kwargs)
        except CannotInline:
            raise
        except Exception as error:
            raise CannotInline(
                f"its code does not take symbolic tensors ({words(error)})"
            ) from error
        nodes = _nodes(outputs, {*given, *(id(t) for t in asked)})
        for node in nodes:
            _check_constants(layer, node, lengths)
    return Trace(nodes, outputs, given, asked[0] if asked else None, lengths)


def _lengths(layer: Any, tensors: Sequence[Any]) -> Lengths:
    sizes = [size for v in getattr(layer, "variables", ()) for size in v.shape]
    sizes += [size for t in tensors for size in getattr(t, "shape", ()) if size]
    free = [prime for prime in PRIMES if not any(int(size) % prime == 0 for size in sizes)]
    if len(free) < 2:
        raise CannotInline("no length is left that is unlike all of its sizes")
    return Lengths(free[0], free[1])


def _shape(shape: Sequence[int | None], lengths: Lengths) -> tuple[int, ...]:
    return tuple(
        size if size is not None else lengths.other if number else lengths.batch
        for number, size in enumerate(shape)
    )


@contextmanager
def _forgotten(layer: Any) -> Iterator[None]:
    """Calls made meanwhile leave no mark on the layers that are called."""
    inner = _inner(layer)
    counts = [len(each._inbound_nodes) for each in inner]
    try:
        yield
    finally:
        for each, count in zip(inner, counts, strict=True):
            del each._inbound_nodes[count:]


@contextmanager
def _by_their_code(layer: Any) -> Iterator[None]:
    """Let layers of KerasHub inside this one take and give whatever their code does.

    Shapes of their outputs are derived from their code: what they inherit from a stock layer may
    not hold for them. Those that give None among their outputs, which Keras does not record, are
    left out of the record: what they call appears in their place.
    """
    inner = [each for each in _inner(layer) if each is not layer]
    # EinsumDense forgets lengths that its settings do not say.
    shaped = [e for e in inner if is_hub(e) or type(e) is keras.layers.EinsumDense]
    kinds = {type(each) for each in inner if type(each).__name__ in GIVE_NONE}
    originals = {kind: kind.__dict__.get("__call__") for kind in kinds}
    for each in shaped:
        each.__dict__["compute_output_spec"] = partial(compute_output_spec, each.call)
    for kind in kinds:
        kind.__call__ = _straight
    try:
        yield
    finally:
        for each in shaped:
            del each.__dict__["compute_output_spec"]
        for kind, original in originals.items():
            if original is None:
                del kind.__call__
            else:
                kind.__call__ = original


def _straight(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return layer.call(*args, **kwargs)


def _inner(layer: Any) -> list[Any]:
    return list(layer._flatten_layers()) if hasattr(layer, "_flatten_layers") else []


@contextmanager
def _unknown_lengths(lengths: Lengths, asked: list[Any]) -> Iterator[None]:
    """Let `ops.arange(length)` give a placeholder, and `ops.zeros` a zero, of unknown length."""
    arange, zeros = keras.ops.arange, keras.ops.zeros

    def counted(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Any:
        first, last = (0, start) if stop is None else (start, stop)
        ends = (first, last) if isinstance(first, int) and isinstance(last, int) else (0, 0)
        length = lengths.other
        if in_symbolic_scope() or not lengths.within(ends[1] - ends[0]):
            return arange(start, stop, step, dtype)
        if step not in (1, None) or ends not in ((0, length), (1 - length, 1)):
            raise CannotInline("it counts along an unknown length")
        if not asked:
            asked.append(keras.KerasTensor((length,), dtype="int32"))
        found = asked[0] if ends[0] == 0 else keras.ops.subtract(asked[0], keras.ops.max(asked[0]))
        return found if dtype in (None, "int32") else keras.ops.cast(found, dtype)

    def nothing(shape: Any, dtype: Any = None) -> Any:
        if in_symbolic_scope() or not lengths.within(shape):
            return zeros(shape, dtype)
        return zeros([1] * len(shape), dtype)

    keras.ops.arange, keras.ops.zeros = counted, nothing
    try:
        yield
    finally:
        keras.ops.arange, keras.ops.zeros = arange, zeros


def _nodes(outputs: Any, known: set[int]) -> tuple[Any, ...]:
    """The calls behind the outputs, each after those it depends on."""
    found: dict[int, Any] = {}
    waiting = [(tensor, False) for tensor in reversed(keras.tree.flatten(outputs))]
    while waiting:
        tensor, ready = waiting.pop()
        if id(tensor) in known:
            continue
        if not isinstance(tensor, keras.KerasTensor):
            if getattr(tensor, "shape", ()) and 0 in tensor.shape:
                continue  # An empty tensor in place of an output that nobody asked for.
            raise CannotInline("it gives something that does not follow from its inputs")
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        if ready:
            found.setdefault(id(node), node)
            known.update(id(each) for each in node.output_tensors)
        elif id(node) not in found:
            waiting.append((tensor, True))
            waiting += [(each, False) for each in reversed(node.input_tensors)]
    return tuple(found.values())


def table_of(node: Any) -> Any:
    """The weight of which a call looks up rows, or None: an embedding by another name."""
    values = [*node.arguments.args, *node.arguments.kwargs.values()]
    if type(node.operation).__name__ != "Take" or node.operation.axis != 0 or len(values) != 2:
        return None
    table = values[0]
    return table if isinstance(table, keras.Variable) and len(table.shape) == 2 else None


def _check_constants(layer: Any, node: Any, lengths: Lengths) -> None:
    """An array among the arguments is a constant, unless a weight is behind it."""
    if table_of(node) is not None:
        return
    for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)):
        if isinstance(value, keras.KerasTensor) or not hasattr(value, "shape"):
            continue
        if isinstance(value, keras.Variable):
            raise CannotInline(f"it computes with its weight {value.name} by itself")
        size = int(np.prod(value.shape, dtype=np.int64))
        if size > CONSTANT or lengths.within([int(n) for n in value.shape]):
            raise CannotInline(f"it computes with a constant of shape {tuple(value.shape)}")
        entries = np.sort(keras.ops.convert_to_numpy(value), axis=None)
        for variable in getattr(layer, "weights", ()) if size > 1 else ():
            if int(np.prod(variable.shape)) == size and np.array_equal(
                np.sort(keras.ops.convert_to_numpy(variable), axis=None), entries
            ):
                raise CannotInline(f"it computes with its weight {variable.name} by itself")
