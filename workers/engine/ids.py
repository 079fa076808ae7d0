"""Channel ids: what every entry of a tensor is called, and which names mean the same unit.

An id tensor has the shape of its tensor without the batch axis; an axis of unknown length has
size 1. Axes along which nothing changes are broadcast views (stride 0), so that spatial axes
cost nothing.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def flat_shape(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The id tensor's shape for a Keras shape with its batch axis: unknown lengths become 1."""
    return tuple(1 if size is None else int(size) for size in shape[1:])


def compact(ids: Ids) -> Ids:
    """One representative along every broadcast axis; the rank stays."""
    return ids[tuple(slice(0, 1) if step == 0 else slice(None) for step in ids.strides)]


def tidy(ids: Ids) -> Ids:
    """The same ids with every axis along which nothing changes turned into a broadcast view."""
    small = compact(ids)
    for axis in range(small.ndim):
        if small.shape[axis] > 1 and bool((small == small.take([0], axis)).all()):
            small = small.take([0], axis)
    return np.broadcast_to(small, ids.shape)


def varying_axes(ids: Ids) -> tuple[int, ...]:
    """Axes along which a tidied id tensor changes."""
    return tuple(axis for axis, size in enumerate(compact(ids).shape) if size > 1)


def spread(line: Ids, shape: tuple[int, ...], axis: int) -> Ids:
    """A tensor of `shape` whose entries are named by their position along `axis` alone."""
    view = [1] * len(shape)
    view[axis] = line.size
    return tidy(np.broadcast_to(line.reshape(view), shape))


class Names:
    """Union-find over ids, vectorised; the smallest id of a class is its root."""

    def __init__(self) -> None:
        self._parent: Ids = np.empty(1024, dtype=np.int64)
        self._size = 0

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
        """Root of each id; same shape, broadcast axes kept."""
        small = compact(ids)
        while True:
            above = self._parent[small]
            if np.array_equal(above, small):
                return np.broadcast_to(small, ids.shape)
            small = above

    def unite(self, left: Ids, right: Ids) -> None:
        """Make the ids that meet one unit; shapes are broadcast against each other."""
        one, two = np.broadcast_arrays(compact(left), compact(right))
        pairs = np.unique(np.stack([one.ravel(), two.ravel()], axis=1), axis=0)
        while pairs.size:
            roots = np.sort(self.find(pairs), axis=1)
            pairs = roots[roots[:, 0] != roots[:, 1]]
            np.minimum.at(self._parent, pairs[:, 1], pairs[:, 0])

    def __len__(self) -> int:
        return self._size
