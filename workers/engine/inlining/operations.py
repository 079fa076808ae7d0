"""Operations made again in another graph, whose lengths may not be known."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras

from workers.engine.inlining.names import snake
from workers.engine.inlining.trace import CannotInline, Lengths

Take = Callable[[str], str]
"""Makes a name unique."""


def again(
    operation: Any,
    name: str,
    take: Take,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    lengths: Lengths | None,
) -> Any:
    """The outputs of an operation's twin.

    Args:
        operation: as it was recorded.
        name: what its twin is called, unless that is taken.
        take: makes the name unique.
        args: its arguments in the new graph.
        kwargs: likewise.
        lengths: what unknown lengths were recorded as; None where none are.

    Raises:
        CannotInline: a setting says a length that is not known in the new graph.
    """
    config = operation.get_config()
    unknown = None in getattr(operation, "newshape", ())
    if lengths is None or not (unknown or lengths.within([config, list(args), kwargs])):
        return _named(type(operation).from_config(config), take(name))(*args, **kwargs)
    kind = type(operation).__name__
    if kind == "Reshape":
        found = _reshaped(operation, name, take, args[0], lengths)
        if found is not None:
            return found
    if kind == "BroadcastTo" and _widens(args[0].shape, operation.shape, lengths):
        return args[0]  # What reads it broadcasts it again.
    if kind == "GetItem" and not kwargs:
        key = keras.tree.map_structure(partial(_to_the_end, lengths), args[1])
        if not lengths.within(key):
            return _named(type(operation)(), take(name))(args[0], key)
    raise CannotInline(f"its {kind} needs a length that is not known")


def _reshaped(operation: Any, name: str, take: Take, x: Any, lengths: Lengths) -> Any:
    given = operation.newshape
    sizes = [-1 if size is None or lengths.of(size) else int(size) for size in given]
    if sizes.count(-1) == 1:
        return _named(type(operation)(tuple(sizes)), take(name))(x)
    if given[0] in (None, lengths.batch) and sizes.count(-1) == 2:
        # The layer reads the number of samples when it is called.
        return keras.layers.Reshape(sizes[1:], name=take(name))(x)
    return None


def _named(operation: Any, name: str) -> Any:
    operation.name = name
    return operation


def _to_the_end(lengths: Lengths, key: Any) -> Any:
    """A slice up to an unknown length takes all."""
    if isinstance(key, slice) and key.stop == lengths.other:
        return slice(key.start, None, key.step)
    return key


def _widens(before: Sequence[Any], after: Sequence[int], lengths: Lengths) -> bool:
    """Whether only axes of unknown length are widened."""
    return len(before) == len(after) and all(
        old == new or (lengths.of(new) and old in (None, 1))
        for old, new in zip(before, after, strict=True)
    )


MOVES = re.compile("Conv|Pool|Pad|Crop|Sampling|Reshape|Permute|Transpose|Item|Concat|Slice|Resiz")
"""Classes that may change how many positions there are."""


def input_of(tensor: Any, *, same_length: bool) -> Any:
    """The model's input that a tensor comes from, by the first input of each call.

    Raises:
        CannotInline: `same_length`, and the way from there may change the length of axis 1.
    """
    while True:
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        if not node.input_tensors:
            return tensor
        if same_length and MOVES.search(type(operation).__name__) and not _along_others(node):
            raise CannotInline("the length of its input is not that of the model's input")
        tensor = node.input_tensors[0]


def _along_others(node: Any) -> bool:
    """Whether a call takes pieces along other axes than 0 and 1."""
    if type(node.operation).__name__ != "GetItem" or not isinstance(node.arguments.args[1], tuple):
        return False
    key = node.arguments.args[1]
    if key[0] is Ellipsis:
        return len(key) - 1 <= len(node.input_tensors[0].shape) - 2
    return all(each == slice(None) for each in key[:2])


def counted(source: Any, length: int | None, take: Take) -> Any:
    """0, 1, … of each sample, (batch, length), whole numbers: derived from a model's input.

    Args:
        source: the input; its values do not matter.
        length: how many; None for as many as axis 1 of the input has.
        take: makes names unique.
    """
    ops, rest = keras.ops, [0] * (len(source.shape) - 2)
    if length is None:
        ones = ops.ones_like(source[(slice(None), slice(None), *rest)], dtype="int32")
    else:
        first = source[(slice(None), slice(0, 1), *rest)]
        ones = ops.repeat(ops.ones_like(first, dtype="int32"), length, axis=1)
    found = tensor = ops.subtract(ops.cumsum(ones, axis=1), 1)
    while tensor is not source:
        operation, number, _ = tensor._keras_history
        operation.name = take(f"positions_{snake(type(operation).__name__)}")
        tensor = operation._inbound_nodes[number].input_tensors[0]
    return found
