"""Sums of products: what is summed over counts as zero once it is removed."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import keras

from workers.engine.channels import Argument, Call, Opaque, Rule, Work
from workers.engine.ids import Axis, Tensor, repeated
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.elementwise import broadcast, met
from workers.engine.rules.operations.operands import Arguments, Operand, axes_of, follow, silence

Term = Sequence[str]
"""A label for each axis."""


def contract(
    call: Call, operands: Sequence[Operand], terms: Sequence[Term], out: Term
) -> tuple[Tensor, ...]:
    """Axes of one label meet; those whose label the output lacks are summed over."""
    for operand, term in zip(operands, terms, strict=True):
        if len(term) != len(operand.axes) or len(set(term)) != len(term):
            raise Opaque(f"{call.key} reads a diagonal, or axes that are not understood")
    pairs = list(zip(operands, terms, strict=True))
    tensors = [pair for pair in pairs if not pair[0].constant]
    labels = list(dict.fromkeys(label for term in terms for label in term))
    summed = [label for label in labels if label not in out]
    if call.node is None and any(_axis(pair, n).named for pair in pairs for n in summed):
        raise Opaque(f"{call.key} sums over units inside another layer")
    axes = {}
    for label in labels:
        columns = [
            [_axis(pair, label) for pair in group if label in pair[1]]
            for group in (tensors, [pair for pair in pairs if pair[0].constant])
        ]
        axes[label] = met(call, *columns)
    for operand, term in pairs:
        follow(call, operand, {n: axes[label] for n, label in enumerate(term)})
    silence(
        call,
        [
            (operand.number, n, operand.axes[n])
            for operand, term in tensors
            for n, label in enumerate(term)
            if operand.number is not None and label in summed and operand.axes[n].named
        ],
    )
    if len(pairs) > 1 and summed:
        _record_heads(call, [set(term) for _, term in tensors], axes, out)
        _record_work(call, pairs, axes)
    return (call.fitted([axes.get(label, Axis(1)) for label in out]),)


def _axis(pair: tuple[Operand, Term], label: str) -> Axis:
    operand, term = pair
    return operand.axes[list(term).index(label)] if label in term else Axis(1)


def _record_heads(
    call: Call, terms: Sequence[set[str]], axes: Mapping[str, Axis], out: Term
) -> None:
    """Heads: what two tensors and their product carry side by side while something is summed."""
    for label in out:
        holders = [term for term in terms if label in term]
        shared = set.intersection(*holders) if len(holders) > 1 else set()
        if shared - set(out):
            call.walk.heads.extend(axes[label].lines)


def _record_work(
    call: Call, pairs: Sequence[tuple[Operand, Term]], axes: Mapping[str, Axis]
) -> None:
    """Every combination of labels is one multiplication; the batch is not counted."""
    unknown = [label for label, axis in axes.items() if axis.size is None]
    first = next(term for operand, term in pairs if not operand.constant)
    batch = first[0] if first and first[0] in unknown else unknown[0] if unknown else None
    call.walk.work(call.key, [axis for label, axis in axes.items() if label != batch])
    if len(pairs) > 2:
        # In which order three and more are multiplied is up to the backend.
        call.walk.works.append(Work(call.key, 0, (), exact=False))


def einsum(call: Call) -> tuple[Tensor, ...]:
    """By the letters of its equation."""
    operands = Arguments(call).operands()
    left, arrow, right = call.layer.subscripts.replace(" ", "").partition("->")
    written = left.split(",")
    if len(written) != len(operands):
        raise Opaque(f"{call.key} has an equation that is not understood: {left}")
    ranks = [len(operand.axes) for operand in operands]
    terms = [_spelled(term, rank) for term, rank in zip(written, ranks, strict=True)]
    dots = sorted({label for term in terms for label in term if len(label) > 1}, reverse=True)
    if not arrow:
        letters = sorted(letter for letter in set(left) - set(",.") if left.count(letter) == 1)
        return contract(call, operands, terms, [*dots, *letters])
    before, ellipsis, after = right.partition("...")
    return contract(call, operands, terms, [*before, *(dots if ellipsis else ()), *after])


def _spelled(term: str, rank: int) -> list[str]:
    """Labels of a term; those of its dots are counted from the right: …, dot2, dot1."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after) if dots else 0
    return [*before, *(f"dot{count - n:02}" for n in range(count)), *after]


def matmul(call: Call) -> tuple[Tensor, ...]:
    """Matrices in the last two axes, side by side along those before; vectors in one."""
    left, right = Arguments(call).operands()
    one, other = len(left.axes), len(right.axes)
    terms = (
        ["k"] if one == 1 else [*_batch(one - 2), "n", "k"],
        ["k"] if other == 1 else [*_batch(other - 2), "k", "m"],
    )
    ends = (["n"] if one > 1 else []) + (["m"] if other > 1 else [])
    return contract(call, (left, right), terms, [*_batch(max(one, other, 2) - 2), *ends])


def _batch(count: int) -> list[str]:
    return [f"batch{count - n}" for n in range(count)]


def dot(call: Call) -> tuple[Tensor, ...]:
    """The last axis of the first with the last but one of the second."""
    return _sum_over(call, -2)


def inner(call: Call) -> tuple[Tensor, ...]:
    """The last axes of both."""
    return _sum_over(call, -1)


def _sum_over(call: Call, number: int) -> tuple[Tensor, ...]:
    left, right = Arguments(call).operands()
    if not left.axes or not right.axes:
        return (broadcast(call, (left, right)),)
    last = max(len(right.axes) + number, 0)
    return _paired(call, left, right, [len(left.axes) - 1], [last])


def tensordot(call: Call) -> tuple[Tensor, ...]:
    """Pairs of axes, or the last of the first with the first of the second."""
    left, right = Arguments(call).operands()
    given, ranks = call.layer.axes, (len(left.axes), len(right.axes))
    if isinstance(given, int):
        pair = [list(range(ranks[0] - given, ranks[0])), list(range(given))]
    else:
        pair = [[n] if isinstance(n, int) else list(n) for n in given]
        pair = [[n % rank for n in numbers] for numbers, rank in zip(pair, ranks, strict=True)]
    return _paired(call, left, right, *pair)


def _paired(
    call: Call, left: Operand, right: Operand, mine: Sequence[int], theirs: Sequence[int]
) -> tuple[Tensor, ...]:
    one = [f"left{n}" for n in range(len(left.axes))]
    other = [f"right{n}" for n in range(len(right.axes))]
    for n, m in zip(mine, theirs, strict=True):
        other[m] = one[n]
    out = [label for label in (*one, *other) if not (label in one and label in other)]
    return contract(call, (left, right), (one, other), out)


def dot_layer(call: Call) -> tuple[Tensor, ...]:
    """Of each sample, one axis of the first with one of the second, normalised or not."""
    if len(call.inputs) != 2:
        raise Opaque(f"{call.key} is called with {len(call.inputs)} inputs")
    left, right = (Operand((), axes, number) for number, axes in enumerate(call.inputs))
    given = call.layer.axes
    pair = (given, given) if isinstance(given, int) else tuple(given)
    one = ["batch", *(f"left{n}" for n in range(1, len(left.axes)))]
    other = ["batch", *(f"right{n}" for n in range(1, len(right.axes)))]
    other[pair[1]] = one[pair[0]]
    summed = one[pair[0]]
    out = [label for label in (*one, *other[1:]) if label != summed]
    return contract(call, (left, right), (one, other), out if len(out) > 1 else [*out, "one"])


def attention(call: Call) -> tuple[Tensor, ...]:
    """Query, key and value (batch, positions, heads, dimensions).

    Scores are divided by sqrt(dimensions) unless the call says by what: from then on it says so.
    """
    given = Arguments(call)
    query, key, value = (given.tensor(name) for name in ("query", "key", "value"))
    q, k, v = query.axes, key.axes, value.axes
    for axis in (*q[:2], *k[:2], *v[:2]):
        call.freeze(axis, "attends over it")
    heads = call.walk.unite(_shared(call, k[2], q[2]), q[2], call.key)
    heads = call.walk.unite(heads, _shared(call, v[2], q[2]), call.key)
    dim = call.walk.unite(call.walk.unite(q[3], k[3], call.key), v[3], call.key)
    call.walk.heads.extend(heads.lines)
    for other in given.operands("bias", "mask"):
        call.freeze(other.axes, "attends by it")
        if len(other.axes) == 4:
            follow(call, other, {1: heads})
    if dim.named:
        numbers = [part.number for part in (query, key) if part.number is not None]
        silence(call, [(number, 3, dim) for number in numbers])
        if given.raw("scale") is None:
            scale = 1.0 / math.sqrt(dim.size or 1)
            place = given.place("scale")
            call.walk.arguments.append(Argument(call.node, place, (dim,), lambda _: scale))
    for _ in range(2):
        call.walk.work(call.key, (q[1].bare(), k[1].bare(), heads, dim))
    return (call.fitted((q[0], q[1], heads, dim)),)


def _shared(call: Call, few: Axis, many: Axis) -> Axis:
    """Heads of keys as the queries see them: each serves several of theirs."""
    if few.size is None or many.size is None or few.size == many.size:
        return few
    if few.size == 1:
        call.freeze(few, "uses it for all heads")
        return many
    # Keras repeats them where there are two or more.
    call.freeze(few.take(slice(0, 2)), "needs two heads of keys")
    return repeated(few, many.size // few.size)


def outer(call: Call) -> tuple[Tensor, ...]:
    """Every value with every other, all axes flattened."""
    for part in Arguments(call).operands():
        axes = axes_of(call, None, len(part.axes))
        call.freeze([part.axes[n] for n in axes], "flattens it")
    return (call.fitted([Axis(size) for size in call.shape]),)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(einsum, "Einsum"),
        **each(matmul, "Matmul"),
        **each(dot, "Dot"),
        **each(inner, "Inner"),
        **each(tensordot, "Tensordot"),
        **each(outer, "Outer"),
        **each(attention, "DotProductAttention"),
        keras.layers.Dot: dot_layer,
    }
)
