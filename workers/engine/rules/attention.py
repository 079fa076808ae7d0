"""Attention: heads, and the dimensions within them.

Keys and queries meet in a sum over their dimensions, values and scores in one over positions, so a
dimension goes from both, and a head from all.
"""

import inspect
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor, bare, repeated

layers = keras.layers


def arguments(call: Call) -> dict[str, Any]:
    """The call's arguments by name; a tensor among them is an index into `call.inputs`."""
    if call.node is None:
        raise Opaque(f"{call.key} is called inside another layer")
    positions = {id(t): i for i, t in reversed(list(enumerate(call.node.input_tensors)))}

    def index(value: Any) -> Any:
        return ("input", positions[id(value)]) if id(value) in positions else value

    given = call.node.arguments
    bound = inspect.signature(call.layer.call).bind(*given.args, **given.kwargs)
    return {name: index(value) for name, value in bound.arguments.items()}


def tensor_argument(call: Call, value: Any) -> Tensor | None:
    """The input that an argument stands for."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "input":
        return call.inputs[value[1]]
    return None


def multi_head(call: Call) -> tuple[Tensor, ...]:
    """Kernels of query and key (inputs, heads, key_dim), value (inputs, heads, value_dim), output
    (heads, value_dim, outputs). Scores are divided by sqrt(key_dim), which is made up for.
    """
    layer, (query, value, key) = call.layer, _query_value_key(call)
    if len(query) != 3 or len(value) != 3:
        raise Opaque(f"{call.key} attends over several axes")
    heads = _maker(call, "heads", layer.num_heads)
    key_dim = _maker(call, "key_dim", layer.key_dim)
    value_dim = _maker(call, "value_dim", layer.value_dim)
    _project(call, layer._query_dense, query, heads, ("key_dim", key_dim), silenced=True)
    _project(call, layer._key_dense, key, heads, ("key_dim", key_dim))
    _project(call, layer._value_dense, value, heads, ("value_dim", value_dim))
    if getattr(layer, "_gate_dense", None) is not None:
        _project(call, layer._gate_dense, query, heads, ("value_dim", value_dim))
    call.walk.heads.extend(heads.lines)
    call.edit("num_heads", (heads,))
    call.edit("key_dim", (key_dim,))
    call.edit("value_dim", (value_dim,))
    _scaled(call, layer._query_dense, key_dim)
    made = _output(call, query, heads, value_dim)
    _score_work(call, query[1], value[1], heads, key_dim, value_dim)
    return _attended(call, query, made, heads)


def grouped_query(call: Call) -> tuple[Tensor, ...]:
    """As above, with one key and value head for several query heads, and one head_dim for all."""
    layer, (query, value, key) = call.layer, _query_value_key(call)
    heads = _maker(call, "heads", layer.num_key_value_heads)
    many = repeated(heads, layer.num_query_heads // layer.num_key_value_heads)
    dim = _maker(call, "head_dim", layer.head_dim)
    _project(call, layer._query_dense, query, many, ("head_dim", dim), silenced=True)
    _project(call, layer._key_dense, key, heads, ("head_dim", dim))
    _project(call, layer._value_dense, value, heads, ("head_dim", dim))
    if getattr(layer, "_gate_dense", None) is not None:
        _project(call, layer._gate_dense, query, many, ("head_dim", dim))
    call.walk.heads.extend(heads.lines)
    call.edit("num_key_value_heads", (heads,))
    call.edit("num_query_heads", (many,))
    call.edit("head_dim", (dim,))
    _scaled(call, layer._query_dense, dim)
    made = _output(call, query, many, dim)
    _score_work(call, query[1], value[1], many, dim, dim)
    return _attended(call, query, made, many)


def _query_value_key(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    given = arguments(call)
    query, value = (tensor_argument(call, given.get(name)) for name in ("query", "value"))
    key = tensor_argument(call, given.get("key")) or value
    if query is None or value is None or key is None:
        raise Opaque(f"{call.key} is called without query and value tensors")
    named = [v for n, v in given.items() if n not in ("query", "value", "key")]
    for other in named:
        tensor = tensor_argument(call, other)
        if tensor is not None:
            call.freeze(tensor, "masks its attention by it")
    for axis in (*query[:-1], *value[:-1], *key[:-1]):
        call.freeze(axis, "attends over it")
    return query, value, key


def _maker(call: Call, kind: str, size: int) -> Axis:
    return call.walk.make(f"{call.key}.{kind}", call.layer, int(size), key=call.key)


Units = tuple[str, Axis]
"""Which of the layer's makers, and its axis as this kernel holds it."""


def _project(
    call: Call, inner: Any, read: Tensor, heads: Axis, dim: Units, *, silenced: bool = False
) -> None:
    """Kernel (inputs, heads, dimensions), bias (heads, dimensions).

    `silenced`: a removed dimension is zeroed here in the original, because only a sum reads it.
    """
    call.bind(inner.kernel, 0, read[-1], reads=True)
    for number, (kind, axis) in ((1, ("heads", heads)), (2, dim)):
        call.bind(inner.kernel, number, axis, reads=silenced and number == 2)
        if inner.bias is not None:
            call.bind(inner.bias, number - 1, axis, reads=silenced and number == 2)
        call.walk.slot(f"{call.key}.{kind}", inner.kernel, number, axis)
    call.walk.kernel_work(call.key, inner.kernel, read[1:-1])


def _scaled(call: Call, query_dense: Any, dim: Axis) -> None:
    def factor(sizes: tuple[int, ...]) -> float:
        return math.sqrt(sizes[0] / (dim.size or 1))

    for variable in query_dense.weights:
        call.walk.scale(variable, (dim,), factor)


def _output(call: Call, query: Tensor, heads: Axis, dim: Axis) -> Axis:
    """Kernel (heads, dimensions, outputs), bias (outputs,)."""
    inner = call.layer._output_dense
    call.bind(inner.kernel, 0, heads, reads=True)
    call.bind(inner.kernel, 1, dim, reads=True)
    given = getattr(call.layer, "_output_shape", None)
    if given and len(given) != 1:
        raise Opaque(f"{call.key} has an output of several axes")
    size = int(inner.kernel.shape[-1])
    if size == query[-1].size and not query[-1].named and not given:
        made = Axis(size)
    else:
        made = call.walk.make(f"{call.key}.output", call.layer, size, key=call.key)
        call.walk.slot(f"{call.key}.output", inner.kernel, 2, made)
    if given:
        call.edit("output_shape", (made,), lambda sizes: [sizes[0]])
    elif made.named:
        # Without an output_shape the layer gives as many channels as the query has.
        call.walk.unite(query[-1], made, call.key)
    call.bind(inner.kernel, 2, made)
    if inner.bias is not None:
        call.bind(inner.bias, 0, made)
    call.walk.kernel_work(call.key, inner.kernel, query[1:-1])
    return made


def _score_work(
    call: Call, targets: Axis, sources: Axis, heads: Axis, key_dim: Axis, value_dim: Axis
) -> None:
    for dim in (key_dim, value_dim):
        call.walk.work(call.key, (targets.bare(), sources.bare(), heads, dim))


def _attended(call: Call, query: Tensor, made: Axis, heads: Axis) -> tuple[Tensor, ...]:
    out = call.fitted((*query[:-1], made))
    if len(call.output_shapes) == 1:
        return (out,)
    scores = list(bare(call.output_shapes[1]))
    scores[1] = heads
    return out, call.fitted(scores, 1)


def attention(call: Call) -> tuple[Tensor, ...]:
    """Without projections: query and key meet in a sum over their last axis."""
    layer = call.layer
    parts = call.inputs[: 3 if len(call.inputs) > 2 else 2]
    if len(parts) < 2 or any(len(part) != 3 for part in parts):
        raise Opaque(f"{call.key} is not called with a query and a value of three axes")
    query, value, key = parts[0], parts[1], parts[-1]
    for part in call.inputs[3:]:
        call.freeze(part, "masks its attention by it")
    for axis in (*query[:-1], *value[:-1], *key[:-1]):
        call.freeze(axis, "attends over it")
    met = call.walk.unite(query[-1], key[-1], call.key)
    for variable in layer.weights:
        if variable.name == "scale" and len(variable.shape) == 1:
            call.bind(variable, 0, met)
    if met.named:
        call.silence({0: len(query) - 1, len(parts) - 1 if len(parts) > 2 else 1: len(key) - 1})
    call.walk.work(call.key, (query[1].bare(), key[1].bare(), met))
    call.walk.work(call.key, (query[1].bare(), key[1].bare(), value[-1]))
    out = call.fitted((*query[:-1], value[-1]))
    if len(call.output_shapes) == 1:
        return (out,)
    return out, bare(call.output_shapes[1])


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        layers.MultiHeadAttention: multi_head,
        layers.GroupQueryAttention: grouped_query,
        layers.Attention: attention,
        layers.AdditiveAttention: attention,
    }
)
