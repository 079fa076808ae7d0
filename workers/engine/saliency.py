"""From the saliencies of columns to those of units, and from one layer's scale to all layers'.

A unit may own columns of several kernels (layers that meet in an Add), and several of one (a
channel that is flattened, the gates of a recurrent unit). `reduce_members` makes one number of
them, `normalise` makes the numbers of different groups of units comparable.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.engine.criteria import lamp

Array = NDArray[Any]
Reduction = Literal["mean", "sum", "max", "first"]
Normalisation = Literal["none", "mean", "max", "gaussian", "lamp"]


def reduce_members(members: Sequence[tuple[Array, Array]], units: int, how: Reduction) -> Array:
    """One saliency per unit from those of the columns that it owns.

    Args:
        members: for each kernel the saliency of its columns, (columns,), and the index of the
            unit that owns each, (columns,), -1 for none.
        units: how many units there are.
        how: `mean`, `sum` or `max` over all columns of a unit, whatever kernel they are in; or
            `first`, the mean over its columns in the first kernel in which it has any.
            [Group reductions of DepGraph, Fang et al. 2023, arXiv:2301.12900]

    Returns:
        (units,), float64; 0 for a unit that owns nothing.
    """
    total, count, largest = np.zeros(units), np.zeros(units), np.full(units, -np.inf)
    for saliency, owner in members:
        mine = owner >= 0
        if how == "first":
            mine = mine & (count[owner] == 0)
        np.add.at(total, owner[mine], saliency[mine])
        np.add.at(count, owner[mine], 1)
        np.maximum.at(largest, owner[mine], saliency[mine])
    match how:
        case "sum":
            return total
        case "max":
            return np.where(count > 0, largest, 0.0)
        case "mean" | "first":
            mean: Array = total / np.maximum(count, 1)
            return mean


def normalise(saliency: Array, how: Normalisation) -> Array:
    """Saliencies of one group of units, made comparable with those of other groups.

    `none` leaves them; `mean` and `max` divide by the group's mean or largest; `gaussian` subtracts
    the mean and divides by the standard deviation (of the population); `lamp` divides the square by
    the sum of the squares that are not smaller. All keep the order within the group. Where all
    saliencies are equal, `mean` and `max` give 1 and `gaussian` 0; where all are 0, all give 0.

    Args:
        saliency: (units,), not negative.

    Returns:
        (units,)
    """
    match how:
        case "none":
            return saliency
        case "mean":
            return _over(saliency, float(saliency.mean()))
        case "max":
            return _over(saliency, float(saliency.max()))
        case "gaussian":
            centred = saliency - saliency.mean()
            # The deviation of equal numbers may be a rounding error, not zero.
            flat = saliency.max() == saliency.min()
            return np.zeros_like(centred) if flat else _over(centred, float(saliency.std()))
        case "lamp":
            return lamp(saliency)


def _over(saliency: Array, whole: float) -> Array:
    return saliency / (whole or 1.0)
