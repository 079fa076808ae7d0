"""Operations that move, merge, repeat and join axes. What they do to values is done to names."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from workers.engine.channels import Call, Opaque, Rule, Work
from workers.engine.ids import Axis, Tensor, joined, repeated, tiled
from workers.engine.rules.movers import reshaped
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.operands import Arguments, Operand, axes_of, axis_of, follow

BACKWARDS = slice(None, None, -1)


def reshape(call: Call) -> tuple[Tensor, ...]:
    """Row by row into the new shape, which is derived anew from what remains."""
    given = call.layer.newshape
    old = [given] if isinstance(given, int) else list(given)
    after = _reshaped(call)
    # What was left to infer is inferred again.
    call.edit(
        "newshape",
        after,
        lambda sizes: [o if o in (None, -1) else n for o, n in zip(old, sizes, strict=True)],
    )
    return (after,)


def ravel(call: Call) -> tuple[Tensor, ...]:
    """All in one axis, the batch with it."""
    return (_reshaped(call),)


def _reshaped(call: Call) -> Tensor:
    x = call.input
    if x and call.shape and x[0].size is None and _tail(x) != _tail(call.shape):
        # Windows or heads become samples: how many there are of each is not known from here on.
        call.walk.works.append(Work(call.key, 0, (), exact=False))
    return reshaped(call, x, call.shape)


def _tail(axes: Sequence[Any]) -> int | None:
    """How many values there are behind the first axis."""
    product = 1
    for axis in axes[1:]:
        size = axis.size if isinstance(axis, Axis) else axis
        if size is None:
            return None
        product *= size
    return product


def reordered(order: Callable[[Call, list[int]], list[int]]) -> Rule:
    """Axes change places: `order` gets the call and the numbers 0, 1, … of the axes."""

    def rule(call: Call) -> tuple[Tensor, ...]:
        x = call.input
        return (call.fitted([x[number] for number in order(call, list(range(len(x))))]),)

    return rule


def _transposed(call: Call, numbers: list[int]) -> list[int]:
    axes = call.layer.axes
    return numbers[::-1] if axes is None else [numbers[axis] for axis in axes]


def _swapped(call: Call, numbers: list[int]) -> list[int]:
    one, other = numbers[call.layer.axis1], numbers[call.layer.axis2]
    numbers[one], numbers[other] = other, one
    return numbers


def _moved(call: Call, numbers: list[int]) -> list[int]:
    rank = len(numbers)
    pairs = zip(call.layer.destination, call.layer.source, strict=True)
    places = {target % rank: source % rank for target, source in pairs}
    rest = [number for number in numbers if number not in places.values()]
    return [places[number] if number in places else rest.pop(0) for number in range(rank)]


def expand_dims(call: Call) -> tuple[Tensor, ...]:
    """New axes of size 1."""
    rank = len(call.shape)
    fresh = axes_of(call, call.layer.axis, rank)
    old = iter(call.input)
    return (call.fitted([Axis(1) if n in fresh else next(old) for n in range(rank)]),)


def squeeze(call: Call) -> tuple[Tensor, ...]:
    """Axes of size 1 go; whatever they name stays."""
    x, given = call.input, call.layer.axis
    gone = [n for n, axis in enumerate(x) if axis.size == 1]
    if given is not None:
        gone = axes_of(call, given, len(x))
    for number in gone:
        call.freeze(x[number], "drops its axis")
    return (call.fitted([axis for n, axis in enumerate(x) if n not in gone]),)


def flip(number: int | None = None) -> Rule:
    """Backwards along the axes of the setting, or along axis `number`."""

    def rule(call: Call) -> tuple[Tensor, ...]:
        x = call.input
        given = call.layer.axis if number is None else number
        return (_flipped(x, axes_of(call, given, len(x))),)

    return rule


def _flipped(x: Sequence[Axis], numbers: Sequence[int]) -> Tensor:
    return tuple(axis.take(BACKWARDS) if n in numbers else axis for n, axis in enumerate(x))


def rotate(call: Call) -> tuple[Tensor, ...]:
    """A plane of two axes by quarters of a turn."""
    x = list(call.input)
    one, other = (axis % len(x) for axis in call.layer.axes)
    quarters = call.layer.k % 4
    if quarters in (1, 2):
        x = list(_flipped(x, [other]))
    if quarters in (2, 3):
        x = list(_flipped(x, [one]))
    if quarters % 2:
        x[one], x[other] = x[other], x[one]
    return (call.fitted(x),)


def roll(call: Call) -> tuple[Tensor, ...]:
    """Values go around an axis, so that each of its indices is a position."""
    x = call.input
    for number in axes_of(call, call.layer.axis, len(x)):
        call.freeze(x[number], "rolls it")
    return (x,)


def repeat(call: Call) -> tuple[Tensor, ...]:
    """Every index several times in a row."""
    x, given = list(call.input), call.layer.repeats
    number = axis_of(call, call.layer.axis, len(x))
    counts = [given] if isinstance(given, int) else list(given)
    if len(counts) > 1:
        call.freeze(x[number], "repeats each of its indices as often as a list says")
        x[number] = Axis(call.shape[number])
    else:
        x[number] = repeated(x[number], counts[0])
    return (call.fitted(x),)


def tile(call: Call) -> tuple[Tensor, ...]:
    """Whole axes several times; missing ones are put in front."""
    x, given = list(call.input), call.layer.repeats
    times = [given] if isinstance(given, int) else list(given)
    rank = max(len(x), len(times))
    times = [1] * (rank - len(times)) + times
    x = [Axis(1)] * (rank - len(x)) + x
    pairs = zip(x, times, strict=True)
    return (call.fitted([axis if n == 1 else tiled(axis, n) for axis, n in pairs]),)


def broadcast_to(call: Call) -> tuple[Tensor, ...]:
    """To a shape, which is derived anew from what remains."""
    x, given = call.input, list(call.layer.shape)
    out = [Axis(size) for size in call.shape]
    for number, axis in enumerate(x, start=len(out) - len(x)):
        if axis.size == 1 and out[number].size != 1:
            call.freeze(axis, "broadcasts it over many channels")
        else:
            out[number] = axis
    after = call.fitted(out)
    call.edit(
        "shape",
        after,
        lambda sizes: [o if o is None else n for o, n in zip(given, sizes, strict=True)],
    )
    return (after,)


def pad(call: Call) -> tuple[Tensor, ...]:
    """Constants around an axis belong to nobody; other paddings are made of its own indices."""
    x, widths = call.input, list(call.layer.pad_width)
    if len(widths) == 1:
        widths = widths * len(x)
    out = []
    for axis, (before, after) in zip(x, widths, strict=True):
        if not before and not after:
            out.append(axis)
        elif call.layer.mode == "constant":
            out.append(joined((Axis(before), axis, Axis(after))))
        else:
            call.freeze(axis, "pads it with its own values")
            out.append(joined((Axis(before), axis.bare(), Axis(after))))
    return (call.fitted(out),)


def concatenate(number: int | None = None, least: int = 1) -> Rule:
    """One after the other along the axis of the setting, or along `number` of so many axes."""

    def rule(call: Call) -> tuple[Tensor, ...]:
        parts, rank = Arguments(call).operands(), len(call.shape)
        if rank < least or any(len(part.axes) != rank for part in parts):
            raise Opaque(f"{call.key} joins tensors after adding axes to them")
        along = axis_of(call, call.layer.axis if number is None else number, rank)
        return (call.fitted(_joined(call, parts, along)),)

    return rule


def stack(call: Call) -> tuple[Tensor, ...]:
    """Side by side along a new axis, which names nobody."""
    parts = Arguments(call).operands()
    rank = len(call.shape)
    if any(len(part.axes) != rank - 1 for part in parts):
        raise Opaque(f"{call.key} stacks tensors of different ranks")
    out = _joined(call, parts, None)
    out.insert(axis_of(call, call.layer.axis, rank), Axis(len(parts)))
    return (call.fitted(out),)


def _joined(call: Call, parts: Sequence[Operand], along: int | None) -> list[Axis]:
    """Names of what is joined along an axis; along the others all lose the same."""
    tensors = [part for part in parts if not part.constant]
    out = list(tensors[0].axes)
    for number in range(len(out)):
        if number == along:
            column = [part.axes[number] for part in parts]
            out[number] = joined(column)
            if out[number].size is None:
                call.freeze(column, "joins it with an axis of unknown length")
            continue
        for part in tensors[1:]:
            out[number] = call.walk.unite(out[number], part.axes[number], call.key)
    for part in parts:
        follow(call, part, {n: axis for n, axis in enumerate(out) if n != along})
    return out


def depth_to_space(call: Call) -> tuple[Tensor, ...]:
    """Channels (block, block, made) become positions and `made` channels."""
    channels, size = _image(call), call.layer.block_size
    made = (channels.size or 0) // size**2
    *blocks, rest = reshaped(call, (channels,), (size, size, made))
    call.freeze(blocks, "turns it into positions")
    return (_positions(call, rest),)


def space_to_depth(call: Call) -> tuple[Tensor, ...]:
    """Positions of a block become channels (block, block, channels)."""
    return (_positions(call, tiled(_image(call), call.layer.block_size**2)),)


def _image(call: Call) -> Axis:
    for number, axis in enumerate(call.input):
        if number != call.channel_axis:
            call.freeze(axis, "takes it for positions")
    return call.input[call.channel_axis]


def _positions(call: Call, channels: Axis) -> Tensor:
    axes = [Axis(size) for size in call.shape]
    axes[call.channel_axis] = channels
    return call.fitted(axes)


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(reshape, "Reshape"),
        **each(ravel, "Ravel"),
        **each(reordered(_transposed), "Transpose"),
        **each(reordered(_swapped), "Swapaxes"),
        **each(reordered(_moved), "Moveaxis"),
        **each(expand_dims, "ExpandDims"),
        **each(squeeze, "Squeeze"),
        **each(flip(), "Flip"),
        **each(flip(1), "Fliplr"),
        **each(flip(0), "Flipud"),
        **each(rotate, "Rot90"),
        **each(roll, "Roll"),
        **each(repeat, "Repeat"),
        **each(tile, "Tile"),
        **each(broadcast_to, "BroadcastTo"),
        **each(pad, "Pad"),
        **each(concatenate(), "Concatenate", "Append"),
        **each(concatenate(1, least=2), "Hstack"),
        **each(concatenate(0, least=2), "Vstack"),
        **each(concatenate(2, least=3), "Dstack"),
        **each(stack, "Stack"),
        **each(depth_to_space, "DepthToSpace"),
        **each(space_to_depth, "SpaceToDepth"),
    }
)
