"""Parts of axes: what is split or sliced off must not lose everything.

Of units that are chosen among each other at least one stays. An axis that holds all units of such
a kind keeps one anyway; part of one (half of a layer's units) may lose all of its own.
"""

import numpy as np
from numpy.typing import NDArray

from workers.engine.channels import Walk
from workers.engine.ids import NOBODY, Ids

Kinds = NDArray[np.uint64]


def settle(walk: Walk) -> None:
    """Freeze the first index of every part that could lose all of its indices."""
    if not walk.parts:
        return
    kinds = _kinds(walk)
    for axis, reason in walk.parts:
        lines = [walk.names.find(line) for line in axis.lines]
        whole = int(np.prod([np.unique(line).size for line in lines]))
        # In a grid, every index of one line meets every index of the others.
        grid = bool(lines) and np.unique(np.stack(lines), axis=1).shape[1] == whole
        if not grid or not all(_keeps_one(kinds, line) for line in lines):
            walk.freeze(axis.take(slice(0, 1)), reason)


def _kinds(walk: Walk) -> Kinds:
    """By root, what a unit is chosen among: heads or not, and its columns of each maker; 0: stays.

    A figure per kind, as `Analysis.groups` sorts them.
    """
    roots = walk.names.find(np.arange(len(walk.names)))
    kinds = np.zeros(roots.size, dtype=np.uint64)
    heads = np.zeros(roots.size, dtype=np.bool_)
    for index, maker in enumerate(walk.makers.values(), start=1):
        mine = np.zeros(roots.size, dtype=np.uint64)
        for number, line in enumerate(maker.axis.lines):
            units, columns = np.unique(roots[line], return_counts=True)
            mine[units] = columns.astype(np.uint64) * np.uint64(8) + np.uint64(number)
        made = mine > 0
        kinds[made] = kinds[made] * np.uint64(6364136223846793005) + mine[made] * np.uint64(
            0x9E3779B97F4A7C15
        )
        kinds[made] += np.uint64(index)
    for line in walk.heads:
        heads[roots[line]] = True
    kinds[heads & (kinds > 0)] ^= np.uint64(1 << 63)
    for ids, _ in walk.frozen:
        kinds[roots[ids]] = 0
    kinds[NOBODY] = 0
    kinds[np.flatnonzero(roots != np.arange(roots.size))] = 0
    return kinds


def _keeps_one(kinds: Kinds, line: Ids) -> bool:
    """Whether a unit in this line stays anyway, or some kind of units is all in it."""
    mine, counts = np.unique(kinds[np.unique(line)], return_counts=True)
    if mine[0] == 0:
        return True
    return any(
        np.count_nonzero(kinds == kind) == count for kind, count in zip(mine, counts, strict=True)
    )
