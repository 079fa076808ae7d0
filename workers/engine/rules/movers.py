"""Movers: layers that only move, repeat or pool values. What they do to values is done to names."""

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType

import keras
import numpy as np

from workers.engine.channels import Call, Opaque, Rule, Shape
from workers.engine.ids import Axis, Ids, Tensor, bare, joined, merged, named

layers = keras.layers


def same(call: Call) -> Tensor:
    """Every value keeps its place (dropout, noise)."""
    if set((getattr(call.layer, "noise_shape", None) or ())[1:]) - {None, 1}:
        raise Opaque(f"{call.key} names the shape of its noise")
    return call.input


def spatial(call: Call) -> Tensor:
    """Positions are pooled, padded, cropped or repeated; channels keep theirs."""
    axes = [Axis(size) for size in call.shape]
    for number, axis in enumerate(call.input):
        if number == call.channel_axis:
            axes[number] = axis
        else:
            call.walk.freeze(axis, f"its units are positions, not channels, to {call.key}")
    return call.fitted(axes)


def pooled(call: Call) -> Tensor:
    """All positions become one, with or without their axes."""
    x, channels = call.input, call.channel_axis
    for number, axis in enumerate(x):
        if number != channels:
            call.walk.freeze(axis, f"{call.key} pools it")
    if call.layer.keepdims:
        return call.fitted([a if i == channels else Axis(1) for i, a in enumerate(x)])
    return call.fitted((x[0], x[channels]))


def flatten(call: Call) -> Tensor:
    """Row by row into one axis; channels_first is transposed to channels_last before."""
    batch, *rest = call.input
    if call.channel_axis == 1 and len(rest) > 1:
        rest = [*rest[1:], rest[0]]
    if any(axis.size is None for axis in rest):
        call.freeze(rest, "flattens it with an axis of unknown length")
    return call.fitted((batch, merged(rest) if rest else Axis(1)))


def reshape(call: Call) -> Tensor:
    """Row by row into the target shape, which is derived anew from what remains."""
    after = reshaped(call, call.input, call.shape)
    given = call.layer.target_shape
    call.edit(
        "target_shape",
        after[1:],
        lambda sizes: [old if old == -1 else new for old, new in zip(given, sizes, strict=True)],
    )
    return after


def reshaped(call: Call, axes: Sequence[Axis], shape: Shape) -> Tensor:
    """The names of a tensor after `reshape`: runs of axes that hold the same values are paired.

    Axes of unknown length are paired from both ends; what cannot be paired stays.
    """
    out = list(bare(shape))
    used: set[int] = set()
    for (left, right), (start, end) in _runs([axis.size for axis in axes], list(shape)):
        out[start:end] = _regrouped(call, axes[left:right], shape[start:end])
        used.update(range(left, right))
    for number, axis in enumerate(axes):
        if number not in used:
            call.walk.freeze(axis, f"{call.key} reshapes it with an axis of unknown length")
    return tuple(out)


Run = tuple[tuple[int, int], tuple[int, int]]


def _runs(before: list[int | None], after: list[int | None]) -> list[Run]:
    """Shortest runs of axes with equal products, from the front and then from the back."""
    runs: list[Run] = []
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] is None and after[j] is None and _rest_fits(before, after, i, j):
            runs.append(((i, i + 1), (j, j + 1)))
            i, j = i + 1, j + 1
            continue
        run = _run(before[i:], after[j:])
        if run is None:
            break
        runs.append(((i, i + run[0]), (j, j + run[1])))
        i, j = i + run[0], j + run[1]
    tail_before, tail_after = before[i:][::-1], after[j:][::-1]
    a = b = 0
    while a < len(tail_before) and b < len(tail_after):
        run = _run(tail_before[a:], tail_after[b:])
        if run is None:
            break
        runs.append(
            (
                (len(before) - a - run[0], len(before) - a),
                (len(after) - b - run[1], len(after) - b),
            )
        )
        a, b = a + run[0], b + run[1]
    return runs


def _rest_fits(before: list[int | None], after: list[int | None], i: int, j: int) -> bool:
    """Whether two unknown lengths can be the same: what follows them holds as many values."""
    one, other = before[i + 1 :], after[j + 1 :]
    if one.count(None) != other.count(None):
        return False
    return prod(n for n in one if n is not None) == prod(n for n in other if n is not None)


def _run(before: list[int | None], after: list[int | None]) -> tuple[int, int] | None:
    if before[0] is None or after[0] is None:
        return None
    i = j = 1
    one, other = before[0], after[0]
    while one != other:
        if one < other:
            if i == len(before) or (more := before[i]) is None:
                return None
            one, i = one * more, i + 1
        else:
            if j == len(after) or (more := after[j]) is None:
                return None
            other, j = other * more, j + 1
    # Axes of size 1 go with the run before them.
    while i < len(before) and before[i] == 1 and not (j < len(after) and after[j] == 1):
        i += 1
    while j < len(after) and after[j] == 1 and not (i < len(before) and before[i] == 1):
        j += 1
    return i, j


def _regrouped(call: Call, axes: Sequence[Axis], shape: Sequence[int | None]) -> list[Axis]:
    whole = merged(axes)
    sizes = [size or 0 for size in shape]
    if not whole.named or whole.size is None:
        return [Axis(size) for size in shape]
    big = [number for number, size in enumerate(sizes) if size > 1]
    if len(big) <= 1:
        place = big[0] if big else len(sizes) - 1
        return [whole if number == place else Axis(size) for number, size in enumerate(sizes)]
    return _split(call, whole, sizes)


def _split(call: Call, whole: Axis, sizes: list[int]) -> list[Axis]:
    """One axis becomes several: each line goes where it changes; a line that changes along
    several is laid out as a grid by its makers, or else only its last axis is told apart.
    """
    found: list[list[Ids]] = [[] for _ in sizes]
    for line in whole.lines:
        grid = call.walk.names.find(line).reshape(sizes)
        changing = [n for n in range(grid.ndim) if not (grid == grid.take([0], n)).all()]
        if not changing:
            call.walk.freeze(Axis(whole.size, (line,)), f"{call.key} splits it up")
            continue
        if len(changing) > 1:
            call.walk.want(Axis(whole.size, (line,)), tuple(sizes))
            for number in changing[:-1]:
                call.walk.names.unite(grid, grid.take([0], number))
        last = changing[-1]
        place = tuple(slice(None) if n == last else 0 for n in range(grid.ndim))
        found[last].append(np.ascontiguousarray(grid[place]))
    return [named(lines, size) for lines, size in zip(found, sizes, strict=True)]


def permute(call: Call) -> Tensor:
    """Axes change places."""
    x = call.input
    return (x[0], *(x[number] for number in call.layer.dims))


def repeat_vector(call: Call) -> Tensor:
    """(batch, channels) becomes (batch, n, channels)."""
    x = call.input
    return (x[0], Axis(call.shape[1]), x[1])


def concatenate(call: Call) -> Tensor:
    """One after the other along an axis."""
    return concatenated(call, call.inputs, call.axis(call.layer.axis))


def concatenated(call: Call, parts: Sequence[Tensor], number: int) -> Tensor:
    """Names of tensors joined along axis `number`; along the others they lose the same."""
    out = list(bare(call.shape))
    for other in range(len(out)):
        column = [part[other] for part in parts]
        if other == number:
            out[other] = joined(column)
            if out[other].size is None:
                call.freeze(column, "joins it with an axis of unknown length")
            continue
        for axis in column[1:]:
            column[0] = call.walk.unite(column[0], axis, call.key)
        out[other] = column[0]
    return call.fitted(out)


def masking(call: Call) -> Tensor:
    """Steps whose channels all hold one value are masked: fewer channels would mask others."""
    if call.layer.mask_value != 0:
        call.freeze(call.input[-1], f"masks steps that hold {call.layer.mask_value}")
    return call.input


def _each(rule: Rule, *kinds: type) -> dict[type, Rule]:
    return dict.fromkeys(kinds, rule)


_POOLING = (
    *(
        getattr(layers, f"{kind}Pooling{rank}D")
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
    *(
        getattr(layers, f"Adaptive{kind}Pooling{rank}D")
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    ),
)

RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **_each(
            same,
            layers.Dropout,
            layers.AlphaDropout,
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
            layers.SpatialDropout3D,
            layers.GaussianDropout,
            layers.GaussianNoise,
            layers.ActivityRegularization,
            layers.Identity,
        ),
        **_each(
            spatial,
            *_POOLING,
            layers.Resizing,
            layers.CenterCrop,
            *(getattr(layers, f"ZeroPadding{rank}D") for rank in (1, 2, 3)),
            *(getattr(layers, f"Cropping{rank}D") for rank in (1, 2, 3)),
            *(getattr(layers, f"UpSampling{rank}D") for rank in (1, 2, 3)),
        ),
        **_each(
            pooled,
            *(getattr(layers, f"GlobalMaxPooling{rank}D") for rank in (1, 2, 3)),
            *(getattr(layers, f"GlobalAveragePooling{rank}D") for rank in (1, 2, 3)),
        ),
        layers.Masking: masking,
        layers.Flatten: flatten,
        layers.Reshape: reshape,
        layers.Permute: permute,
        layers.RepeatVector: repeat_vector,
        layers.Concatenate: concatenate,
    }
)
