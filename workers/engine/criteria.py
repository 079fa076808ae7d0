"""Criteria: how much an entry or a unit matters. Pure functions of arrays; higher is kept."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Criterion = Callable[[Array, np.random.Generator], Array]


def magnitude(weights: Array) -> Array:
    """|w|: small weights matter least.  [Han et al. 2015, arXiv:1506.02626]

    Same shape out.
    """
    return np.abs(weights)


def l1_norm(columns: Array) -> Array:
    """Sum of |w| of each column, (entries, columns) -> (columns,).

    [Li et al. 2017, arXiv:1608.08710]
    """
    norms: Array = np.abs(columns, dtype=np.float64).sum(axis=0)
    return norms


def l2_norm(columns: Array) -> Array:
    """Euclidean norm of each column, (entries, columns) -> (columns,)."""
    norms: Array = np.sqrt(np.square(columns, dtype=np.float64).sum(axis=0))
    return norms


def chance(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Uniform numbers: the control that any criterion must beat."""
    return random.random(shape, dtype=np.float32)


WEIGHT_CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "magnitude": lambda weights, random: magnitude(weights),
        "l1": lambda weights, random: magnitude(weights),
        "l2": lambda weights, random: magnitude(weights),
        "random": lambda weights, random: chance(weights.shape, random),
        "threshold": lambda weights, random: magnitude(weights),
    }
)
"""Saliency of single weights: any shape in, same shape out."""

UNIT_CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "magnitude": lambda columns, random: l2_norm(columns),
        "l1": lambda columns, random: l1_norm(columns),
        "l2": lambda columns, random: l2_norm(columns),
        "random": lambda columns, random: chance(columns.shape[1:], random),
    }
)
"""Saliency of a kernel's columns: (entries, columns) in, (columns,) out. Biases do not count."""
