"""Criteria: how much an entry or a unit matters. Pure functions of arrays; higher is kept.

A criterion takes what it ranks, a random stream, and what was `Seen` on data:

- of weights: any shape in, same shape out (`WEIGHT_CRITERIA`);
- of units: a kernel as (entries, columns) in, (columns,) out (`UNIT_CRITERIA`). Biases do not
  count.

`as_columns` and `Seen.along` view a kernel, and what was seen of it, as columns along any axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal

Array = NDArray[Any]

_COLUMNS_AT_ONCE = 1024
"""Columns whose distances to all others are in memory together."""


@dataclass(frozen=True)
class Seen:
    """What was seen of one kernel, on data and around it; what a criterion does not need is None.

    The first four have the kernel's own shape, the others one entry per column.
    """

    taylor: Array | None = None
    """Mean over batches of |w · ∂L/∂w|."""
    squared_gradient: Array | None = None
    """Mean over batches of (∂L/∂w)²."""
    signal_to_noise: Array | None = None
    """w²/σ², σ being the noise that training has learned to add."""
    input_norm: Array | None = None
    """Euclidean norm of the input that each weight reads."""
    activity: Array | None = None
    """Mean |activation| of each column's output."""
    zeros: Array | None = None
    """Share of each column's activations that are exactly zero."""
    scale: Array | None = None
    """γ of the batch normalisation behind each column, where there is one."""

    def along(self, axes: int | tuple[int, ...]) -> "Seen":
        """The same for the kernel seen `as_columns` along `axes`."""

        def view(whole: Array | None) -> Array | None:
            return None if whole is None else as_columns(whole, axes)

        return replace(
            self,
            taylor=view(self.taylor),
            squared_gradient=view(self.squared_gradient),
            signal_to_noise=view(self.signal_to_noise),
            input_norm=view(self.input_norm),
        )


NOTHING = Seen()
"""Enough for the criteria that look at weights alone."""


class Criterion(Protocol):
    """Saliency of an array's entries (same shape) or of its columns, (columns,)."""

    def __call__(self, array: Array, random: np.random.Generator, seen: Seen = NOTHING, /) -> Array:
        """`random` is for criterion random, `seen` for those that look further than the array."""
        ...


def as_columns(kernel: Array, axes: int | tuple[int, ...]) -> Array:
    """A kernel as (entries, columns), its columns along one axis, or row by row along several."""
    axes = (axes,) if isinstance(axes, int) else axes
    moved = np.moveaxis(kernel, axes, range(-len(axes), 0))
    columns = int(np.prod(moved.shape[kernel.ndim - len(axes) :]))
    return moved.reshape(-1, columns)


# --- from weights ------------------------------------------------------------------------------
def magnitude(weights: Array) -> Array:
    """|w|: small weights matter least.  [Han et al. 2015, arXiv:1506.02626]

    Same shape out.
    """
    return np.abs(weights)


def l1_norm(columns: Array) -> Array:
    """Sum of |w| of each column, (entries, columns) -> (columns,).

    [Li et al. 2017, arXiv:1608.08710]
    """
    norms: Array = np.add.reduce(np.abs(columns), axis=0, dtype=np.float64)
    return norms


def l2_norm(columns: Array) -> Array:
    """Euclidean norm of each column, (entries, columns) -> (columns,)."""
    # By einsum, which holds no squares of a whole kernel (100 million numbers in VGG16).
    squares = np.einsum("ec,ec->c", columns, columns, dtype=np.float64)
    norms: Array = np.sqrt(squares)
    return norms


def chance(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Uniform numbers: the control that any criterion must beat."""
    return random.random(shape, dtype=np.float32)


def lamp(weights: Array) -> Array:
    """w² over the sum of the squares that are not smaller, in (0, 1]; zeros have 0.

    Same shape out. Makes the weights of different layers comparable, and ranks those of one layer
    as their magnitudes do. Equal magnitudes have equal scores, where the paper orders them by
    index.  [Lee et al. 2021, arXiv:2010.07611]
    """
    squares = np.square(weights, dtype=np.float64)
    ascending = np.sort(squares, axis=None)
    not_smaller = np.cumsum(ascending[::-1])[::-1]
    whole = not_smaller[np.searchsorted(ascending, squares)]
    scores: Array = np.divide(squares, whole, out=np.zeros_like(squares), where=squares > 0)
    return scores


def geometric_median(columns: Array) -> Array:
    """Sum of each column's Euclidean distances to all others, (entries, columns) -> (columns,).

    Columns near the geometric median of all are the most replaceable by the others.  [FPGM, He et
    al. 2019, arXiv:1811.00250]
    """
    # Distances do not change, and cancel less in |a|² - 2ab + |b|², around the mean.
    centred = columns - columns.mean(axis=1, keepdims=True, dtype=np.float64)
    squares = np.square(centred).sum(axis=0)
    sums = np.empty(centred.shape[1])
    for start in range(0, sums.size, _COLUMNS_AT_ONCE):
        rows = slice(start, start + _COLUMNS_AT_ONCE)
        between = squares[rows, None] - 2.0 * (centred[:, rows].T @ centred) + squares
        sums[rows] = np.sqrt(np.maximum(between, 0.0)).sum(axis=1)
    return sums


def batch_norm_scale(columns: Array, scale: Array | None) -> Array:
    """|γ| of the batch normalisation behind each column; its norm where there is none.

    (entries, columns) -> (columns,).  [Network slimming, Liu et al. 2017, arXiv:1708.06519]
    """
    return l2_norm(columns) if scale is None else np.abs(scale)


# --- from data ---------------------------------------------------------------------------------
def _known(evidence: Array | None, criterion: str) -> Array:
    if evidence is None:
        raise EngineRefusal(
            f"Criterion {criterion} looks at data, and nothing was observed of a layer that it is "
            "to rank. Skip that layer, or use criterion magnitude."
        )
    return evidence


def taylor(seen: Seen) -> Array:
    """|w · ∂L/∂w|, the first-order change in loss without a weight; the evidence's shape.

    The mean over batches of absolute values.  [Molchanov et al. 2017,
    arXiv:1611.06440; 2019, arXiv:1906.10771, which squares instead]
    """
    return _known(seen.taylor, "taylor")


def fisher(weights: Array, seen: Seen) -> Array:
    """½ w² E[(∂L/∂w)²], the second-order change in loss without a weight; same shape out.

    Optimal brain damage with the diagonal of the empirical Fisher matrix for that of the Hessian,
    which it equals in expectation at a minimum of a likelihood.  [LeCun et al. 1990; Theis et
    al. 2018, arXiv:1801.05787]
    """
    gradients = _known(seen.squared_gradient, "fisher")
    return 0.5 * np.square(weights, dtype=np.float64) * gradients


def wanda(weights: Array, seen: Seen) -> Array:
    """|w| · ‖x‖, x being what a weight reads; same shape out.

    Weights compete within a layer or the model, as the scope says; the paper lets them compete
    within each output.  [Sun et al. 2023, arXiv:2306.11695]
    """
    return np.abs(weights) * _known(seen.input_norm, "wanda")


def variational_dropout(seen: Seen) -> Array:
    """w²/σ², the inverse of the dropout rate α that was learned; the evidence's shape.

    [Sparse variational dropout, Molchanov et al. 2017, arXiv:1701.05369]
    """
    return _known(seen.signal_to_noise, "variational_dropout")


def apoz(seen: Seen) -> Array:
    """One minus the share of activations that are zero, (columns,).

    [Average percentage of zeros, Hu et al. 2016, arXiv:1607.03250]
    """
    busy: Array = 1.0 - _known(seen.zeros, "apoz")
    return busy


def activation(seen: Seen) -> Array:
    """Mean |activation|, (columns,).  [Molchanov et al. 2017, arXiv:1611.06440]"""
    return _known(seen.activity, "activation")


def _summed(columns: Array) -> Array:
    """(entries, columns) -> (columns,)."""
    sums: Array = columns.sum(axis=0, dtype=np.float64)
    return sums


# --- registries --------------------------------------------------------------------------------
WEIGHT_CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "magnitude": lambda weights, random, seen=NOTHING: magnitude(weights),
        "l1": lambda weights, random, seen=NOTHING: magnitude(weights),
        "l2": lambda weights, random, seen=NOTHING: magnitude(weights),
        "random": lambda weights, random, seen=NOTHING: chance(weights.shape, random),
        "threshold": lambda weights, random, seen=NOTHING: magnitude(weights),
        "lamp": lambda weights, random, seen=NOTHING: lamp(weights),
        "taylor": lambda weights, random, seen=NOTHING: taylor(seen),
        "fisher": lambda weights, random, seen=NOTHING: fisher(weights, seen),
        "wanda": lambda weights, random, seen=NOTHING: wanda(weights, seen),
        "variational_dropout": lambda weights, random, seen=NOTHING: variational_dropout(seen),
    }
)
"""Saliency of single weights: any shape in, same shape out."""

UNIT_CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "magnitude": lambda columns, random, seen=NOTHING: l2_norm(columns),
        "l1": lambda columns, random, seen=NOTHING: l1_norm(columns),
        "l2": lambda columns, random, seen=NOTHING: l2_norm(columns),
        "random": lambda columns, random, seen=NOTHING: chance(columns.shape[1:], random),
        "lamp": lambda columns, random, seen=NOTHING: lamp(l2_norm(columns)),
        "geometric_median": lambda columns, random, seen=NOTHING: geometric_median(columns),
        "batch_norm_scale": lambda columns, random, seen=NOTHING: batch_norm_scale(
            columns, seen.scale
        ),
        "taylor": lambda columns, random, seen=NOTHING: _summed(taylor(seen)),
        "fisher": lambda columns, random, seen=NOTHING: _summed(fisher(columns, seen)),
        "wanda": lambda columns, random, seen=NOTHING: _summed(wanda(columns, seen)),
        "apoz": lambda columns, random, seen=NOTHING: apoz(seen),
        "activation": lambda columns, random, seen=NOTHING: activation(seen),
    }
)
"""Saliency of a kernel's columns: (entries, columns) in, (columns,) out. Biases do not count."""
