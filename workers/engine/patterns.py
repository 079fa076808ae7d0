"""Patterns of masks, n:m and blocks. Pure functions of arrays; True where a weight goes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.engine.masks import Mask, most

Array = NDArray[Any]


@dataclass(frozen=True)
class Matrix:
    """Which axes of a kernel of `shape` are its inputs, summed over, and which its outputs.

    Axes that are neither, such as a convolution's window, are positions: the kernel is a pile of
    matrices, one per position, and no pattern spans two of them.
    """

    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def _order(self) -> tuple[int, ...]:
        used = self.inputs + self.outputs
        return tuple(axis for axis in range(len(self.shape)) if axis not in used) + used

    @property
    def sides(self) -> tuple[int, int]:
        """Inputs and outputs of one matrix."""
        inputs, outputs = (
            math.prod(self.shape[axis] for axis in axes) for axes in (self.inputs, self.outputs)
        )
        return inputs, outputs

    def fold(self, kernel: Array) -> Array:
        """An array of the kernel's shape as (positions, inputs, outputs)."""
        folded: Array = kernel.transpose(self._order)
        return folded.reshape(-1, *self.sides)

    def unfold(self, folded: Array) -> Array:
        """What `fold` gave, in the kernel's shape again."""
        moved = folded.reshape([self.shape[axis] for axis in self._order])
        return moved.transpose(np.argsort(self._order))


def going(length: int, n: int, m: int, share: float = 1.0, max_remove: float | None = None) -> int:
    """How many weights of a run go. **The one exact rule** of granularity n_m.

    Of a run of `length` weights, `share * length * (m - n) / m` go, rounded down. So at share 1
    exactly n of each run of m stay, of a last, shorter run of r the ceil(r * n / m) that stay are
    never more than n, and what goes at a share goes at every larger one. `max_remove` lets at
    most this share of each run go, rounded down too.
    """
    count = most(share * (m - n) / m, length)
    return count if max_remove is None else min(count, most(max_remove, length))


def n_of_m(
    saliency: Array, n: int, m: int, share: float = 1.0, max_remove: float | None = None
) -> Mask:
    """Of each run of m neighbours along the inputs, the smallest; the lower index among equals.

    [Mishra et al. 2021, arXiv:2104.08378]

    Args:
        saliency: (positions, inputs, outputs), as `Matrix.fold` gives it.
        n: how many of each run stay in the end; `going` has the count.
        m: length of a run; the last one may be shorter.
        share: of the way to n:m, in (0, 1].
        max_remove: largest share of each run that may go.
    """
    positions, inputs, outputs = saliency.shape
    gone = np.zeros(saliency.shape, dtype=np.bool_)
    whole = inputs - inputs % m
    for part, length in ((slice(0, whole), m), (slice(whole, inputs), inputs - whole)):
        count = going(length, n, m, share, max_remove)
        if not count:
            continue
        runs = saliency[:, part].reshape(positions, -1, length, outputs)
        chosen = np.zeros(runs.shape, dtype=np.bool_)
        first = np.argsort(runs, axis=2, kind="stable")[:, :, :count]
        np.put_along_axis(chosen, first, True, axis=2)
        gone[:, part] = chosen.reshape(positions, -1, outputs)
    return gone


def holds(stays: Mask, n: int, m: int) -> bool:
    """Whether at most n of each run of m neighbours along the inputs stay.

    Args:
        stays: (positions, inputs, outputs), True where a weight stays.
        n: how many may stay.
        m: length of a run; the last one may be shorter.
    """
    counts = np.add.reduceat(stays, np.arange(0, stays.shape[1], m), axis=1, dtype=np.int64)
    return bool((counts <= n).all())


@dataclass(frozen=True)
class Blocks:
    """A kernel's matrices cut into rectangles of `shape`, (inputs, outputs); those at the far
    edges may be smaller. Blocks are indexed as (positions, rows of blocks, columns of blocks).
    """

    matrix: Matrix
    shape: tuple[int, int]

    def sums(self, kernel: Array) -> Array:
        """Sum over each block's entries, in double precision."""
        sums: Array = self.matrix.fold(kernel).astype(np.float64)
        for axis, side in zip((1, 2), self.shape, strict=True):
            sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], side), axis=axis)
        return sums

    def means(self, kernel: Array) -> Array:
        """Mean over each block's entries, so that small blocks at the edges compete fairly."""
        means: Array = self.sums(kernel) / self.sums(np.ones(self.matrix.shape))
        return means

    def spread(self, blocks: Mask) -> Mask:
        """A mask of blocks as a mask of the kernel's entries."""
        height, width = self.shape
        entries = blocks.repeat(height, axis=1).repeat(width, axis=2)
        inputs, outputs = self.matrix.sides
        return self.matrix.unfold(entries[:, :inputs, :outputs])
