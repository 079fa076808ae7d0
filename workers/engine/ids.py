"""Channel ids: what every index of an axis is called, and which names mean the same unit.

A tensor is a tuple of axes, the batch axis first. An axis has a size and *lines*: arrays that give
each of its indices a name. An index stays while all its names stay, so that an axis made of heads
times dimensions loses whole heads by one line and single dimensions by the other. An axis without
lines belongs to nobody and never changes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
NOBODY = 0
"""The name of what always stays."""


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor or a variable; `size` is None where it is not known."""

    size: int | None
    lines: tuple[Ids, ...] = ()

    @property
    def named(self) -> bool:
        """Whether anything along it may be removed."""
        return bool(self.lines)

    def bare(self) -> "Axis":
        """The same size, without names."""
        return Axis(self.size)

    def take(self, indices: Ids | slice) -> "Axis":
        """Some of its indices, in that order."""
        if not self.lines:
            size = None if self.size is None else len(np.arange(self.size)[indices])
            return Axis(size)
        return named(tuple(line[indices] for line in self.lines))


Tensor = tuple[Axis, ...]


def named(lines: Sequence[Ids], size: int | None = None) -> Axis:
    """An axis with these lines; lines that name nobody are left out."""
    length = int(lines[0].size) if lines else size
    return Axis(length, tuple(line for line in lines if line.any()))


def bare(shape: Iterable[int | None]) -> Tensor:
    """A tensor that nothing can be removed from."""
    return tuple(Axis(size) for size in shape)


def repeated(axis: Axis, times: int) -> Axis:
    """Every index `times` times in a row (`numpy.repeat`)."""
    if axis.size is None:
        return Axis(None)
    return Axis(axis.size * times, tuple(np.repeat(line, times) for line in axis.lines))


def tiled(axis: Axis, times: int) -> Axis:
    """The whole axis `times` times (`numpy.tile`)."""
    if axis.size is None:
        return Axis(None)
    return Axis(axis.size * times, tuple(np.tile(line, times) for line in axis.lines))


def merged(axes: Sequence[Axis]) -> Axis:
    """Neighbouring axes row by row in one, as `reshape` merges them."""
    sizes = [axis.size for axis in axes]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return Axis(None)
    lines = []
    for position, axis in enumerate(axes):
        for line in axis.lines:
            view = [1] * len(axes)
            view[position] = known[position]
            lines.append(np.broadcast_to(line.reshape(view), known).reshape(-1))
    return Axis(int(np.prod(known, dtype=np.int64)), tuple(lines))


def joined(axes: Sequence[Axis]) -> Axis:
    """One axis after the other, as `concatenate` joins them."""
    if any(axis.size is None for axis in axes):
        return Axis(None)
    depth = max(len(axis.lines) for axis in axes)
    size = sum(axis.size or 0 for axis in axes)
    lines = [np.concatenate([_nth_line(axis, number) for axis in axes]) for number in range(depth)]
    return Axis(size, tuple(lines))


def _nth_line(axis: Axis, number: int) -> Ids:
    if number < len(axis.lines):
        return axis.lines[number]
    return np.full(axis.size or 0, NOBODY, dtype=np.int64)


class Names:
    """Union-find over ids, vectorised; the smallest id of a class is its root. 0 is nobody."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(1024, dtype=np.int64)
        self._size = 1

    def mint(self, count: int) -> Ids:
        """`count` fresh ids, ascending."""
        start, self._size = self._size, self._size + count
        if self._size > self._parent.size:
            grown = np.empty(max(self._size, 2 * self._parent.size), dtype=np.int64)
            grown[:start] = self._parent[:start]
            self._parent = grown
        fresh = np.arange(start, self._size, dtype=np.int64)
        self._parent[start : self._size] = fresh
        return fresh

    def find(self, ids: Ids) -> Ids:
        """Root of each id; same shape."""
        while True:
            above = self._parent[ids]
            if np.array_equal(above, ids):
                return above
            ids = above

    def unite(self, left: Ids, right: Ids) -> None:
        """Make the ids that meet one unit; shapes are broadcast against each other."""
        one, two = np.broadcast_arrays(left, right)
        pairs = np.stack([one.ravel(), two.ravel()], axis=1)
        while pairs.size:
            roots = np.sort(self.find(pairs), axis=1)
            pairs = np.unique(roots[roots[:, 0] != roots[:, 1]], axis=0)
            np.minimum.at(self._parent, pairs[:, 1], pairs[:, 0])

    def __len__(self) -> int:
        return self._size
