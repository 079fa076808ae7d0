"""Operations that pick some of an axis: which ones is said anew in terms of what remains."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.engine.channels import Argument, Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor, named
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.operands import (
    Arguments,
    alike,
    array,
    axes_of,
    axis_of,
)

Mask = NDArray[np.bool_]
PART = "needs one of each of its parts"


def get_item(call: Call) -> tuple[Tensor, ...]:
    """`x[key]`, with numbers, slices, new axes and an ellipsis."""
    given = Arguments(call)
    x, key = given.tensor("x").axes, given.raw("key")
    items = list(_spelled(call, key, len(x)))
    axes = iter(x)
    out: list[Axis] = []
    changed: dict[int, Axis] = {}
    for place, item in enumerate(items):
        if item is None:
            out.append(Axis(1))
            continue
        axis = next(axes)
        if isinstance(item, int):
            _pick(call, axis, item)
        else:
            out.append(_sliced(call, axis, item))
        if axis.named and item not in (slice(None), slice(None, None, -1)):
            changed[place] = axis
    if changed:
        _follow(call, given.place("key"), items, changed)
    return (call.fitted(out),)


def _spelled(call: Call, key: Any, rank: int) -> Iterator[Any]:
    """The key's items, one per axis and new axis, its ellipsis spelled out."""
    items = list(key) if isinstance(key, (list, tuple)) else [key]
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    free = rank - sum(item is not None and item is not Ellipsis for item in items)
    for item in items:
        if item is Ellipsis:
            yield from [slice(None)] * free
        elif item is None or isinstance(item, (int, slice)):
            yield item
        else:
            raise Opaque(f"{call.key} picks by something else than numbers and slices")


def _pick(call: Call, axis: Axis, index: int) -> None:
    if axis.named:
        call.freeze(axis.take(np.array([index])), "picks it by its number")


def _sliced(call: Call, axis: Axis, item: slice) -> Axis:
    if not axis.named or axis.size is None:
        return axis.take(item)
    start, stop, step = item.indices(axis.size)
    if step == 1 and start < stop:
        return _part(call, axis, axis.take(item))
    if item == slice(None, None, -1):
        return axis.take(item)
    if step > 1 and start < step and stop == axis.size and axis.size % step == 0:
        # Every block of `step` loses all or nothing, so that the step still fits.
        lines = []
        for line in axis.lines:
            grid = line.reshape(-1, step)
            call.walk.names.unite(grid, grid[:, :1])
            lines.append(line[item])
        return _part(call, axis, named(lines, axis.size // step))
    call.freeze(axis, "picks from it by steps")
    return axis.take(item)


def _part(call: Call, whole: Axis, part: Axis) -> Axis:
    """Part of an axis, of which something has to remain."""
    if part.size != whole.size:
        call.walk.keep_one(part, f"{call.key} {PART}")
    return part


def _follow(call: Call, place: Any, items: Sequence[Any], changed: Mapping[int, Axis]) -> None:
    def render(stays: tuple[Mask | None, ...]) -> Any:
        new = list(items)
        for number, mask in zip(changed, stays, strict=True):
            if mask is not None:
                new[number] = _reduced(items[number], mask)
        return tuple(new)

    call.walk.arguments.append(Argument(call.node, place, tuple(changed.values()), render))


def _reduced(item: Any, stays: Mask) -> Any:
    """A number or slice of an axis, counted among what stays of it."""
    if isinstance(item, int):
        return int(stays[: item % stays.size].sum())
    start, stop, step = item.indices(stays.size)
    if step < 0:
        return item
    if step > 1:
        return slice(start, None, step)
    return slice(int(stays[:start].sum()), int(stays[:stop].sum()))


def take(call: Call) -> tuple[Tensor, ...]:
    """Constant indices along an axis."""
    given = Arguments(call)
    x, indices = list(given.tensor("x").axes), given.operand("indices")
    number = axis_of(call, call.layer.axis, len(x))
    axis, rank = x[number], len(indices.axes) if indices is not None else 0
    numbers = None if indices is None or not indices.constant else array(call, indices.value)
    if axis.named and numbers is not None and numbers.ndim <= 1 and axis.size is not None:
        flat = np.atleast_1d(numbers) % axis.size
        part = axis.take(flat)
        if numbers.ndim == 0:
            call.freeze(part, "picks it by its number")
        else:
            # The same one several times may be as many as there were.
            _part(call, axis, axis.take(np.unique(flat)))
        place, value = given.place("indices"), given.raw("indices")

        def render(stays: tuple[Mask | None, ...]) -> Any:
            mask = stays[0]
            assert mask is not None
            new = (np.cumsum(mask) - 1)[flat[mask[flat]]].astype(numbers.dtype)
            return alike(value, new if numbers.ndim else new[0])

        call.walk.arguments.append(Argument(call.node, place, (axis,), render))
        middle = [part] if rank else []
    else:
        call.freeze(axis, "picks from it by an index")
        if indices is not None and not indices.constant:
            call.freeze(indices.axes, "picks by it")
        middle = [Axis(size) for size in call.shape[number : number + rank]]
    return (call.fitted([*x[:number], *middle, *x[number + 1 :]]),)


def split(number: int | None = None) -> Rule:
    """Into parts along the axis of the setting, or along axis `number`."""

    def rule(call: Call) -> tuple[Tensor, ...]:
        x, given = call.input, call.layer.indices_or_sections
        along = axis_of(call, call.layer.axis if number is None else number, len(x))
        sizes = [shape[along] for shape in call.output_shapes]
        known = [size for size in sizes if size is not None]
        ends = [sum(known[: n + 1]) for n in range(len(known))]
        if not x[along].named or ends[-1:] != [x[along].size] or 0 in sizes:
            call.freeze(x[along], "splits it at an index beyond it")
            parts = [Axis(size) for size in sizes]
        else:
            starts = [0, *ends[:-1]]
            parts = [
                _part(call, x[along], x[along].take(slice(start, end)))
                for start, end in zip(starts, ends, strict=True)
            ]
            call.edit("indices_or_sections", parts, lambda left: _sections(given, left))
        return tuple(
            call.fitted([*x[:along], part, *x[along + 1 :]], output)
            for output, part in enumerate(parts)
        )

    return rule


def _sections(given: Any, sizes: Sequence[int | None]) -> Any:
    """A number of equal parts while they are equal, else the indices that part them."""
    if isinstance(given, int) and len(set(sizes)) == 1:
        return given
    return np.cumsum([size or 0 for size in sizes])[:-1].tolist()


def array_split(call: Call) -> tuple[Tensor, ...]:
    """Into parts of nearly the same size, which would be others of fewer indices."""
    x = call.input
    along = axis_of(call, call.layer.axis, len(x))
    call.freeze(x[along], "splits it into parts of nearly the same size")
    return tuple(
        call.fitted([*x[:along], Axis(shape[along]), *x[along + 1 :]], output)
        for output, shape in enumerate(call.output_shapes)
    )


def unstack(call: Call) -> tuple[Tensor, ...]:
    """Each index of an axis by itself: all of them stay."""
    x = call.input
    along = axis_of(call, call.layer.axis, len(x))
    call.freeze(x[along], "takes each of its indices by itself")
    rest = [*x[:along], *x[along + 1 :]]
    return tuple(call.fitted(rest, output) for output in range(len(call.output_shapes)))


def slices(call: Call) -> tuple[Tensor, ...]:
    """A block of a given shape; along axes that it covers, the shape follows what remains."""
    given = Arguments(call)
    x, starts = given.tensor("inputs").axes, given.operands("start_indices")
    shape = list(call.layer.shape)
    out = [Axis(size) for size in call.shape]
    for number, axis in enumerate(x):
        if shape[number] in (-1, axis.size) and axis.size is not None:
            out[number] = axis
        else:
            call.freeze(axis, "picks a block of it")
    for start in starts:
        call.freeze(start.axes, "picks by it")
    after = call.fitted(out)
    call.edit(
        "shape",
        after,
        lambda sizes: [o if o == -1 else n for o, n in zip(shape, sizes, strict=True)],
    )
    return (after,)


def triangle(call: Call) -> tuple[Tensor, ...]:
    """The last two axes are positions of matrices."""
    x = call.input
    for number in axes_of(call, (-1, -2), len(x)):
        call.freeze(x[number], "takes it for rows or columns")
    return (x,)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(get_item, "GetItem"),
        **each(take, "Take"),
        **each(split(), "Split"),
        **each(split(0), "Vsplit"),
        **each(split(1), "Hsplit"),
        **each(split(2), "Dsplit"),
        **each(array_split, "ArraySplit"),
        **each(unstack, "Unstack"),
        **each(slices, "Slice"),
        **each(triangle, "Tril", "Triu"),
    }
)
