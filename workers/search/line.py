"""The lookup model of a search: value ≈ intercept + slope · size, by weighted least squares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.01
"""A trial this far from the limit, relative to it, counts half as much as one at the limit."""


@dataclass(frozen=True)
class Line:
    """A straight line through what was measured."""

    intercept: float
    """Value of a model of size 0: a file's overhead, a call's cost."""
    slope: float

    def value(self, size: float) -> float:
        """The value foreseen for a size."""
        return self.intercept + self.slope * size

    def size(self, value: float) -> float | None:
        """The size foreseen for a value; None where the line does not rise."""
        return (value - self.intercept) / self.slope if self.slope > 0 else None


def fit(sizes: Sequence[float], values: Sequence[float], limit: float) -> Line:
    """The least-squares line, in which trials near `limit` weigh most.

    Files and calls are only nearly affine in parameters and MACs, so far trials tell the first
    guess and near ones the last. A single size gives a level line.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
    weights = 1.0 / (1.0 + ((y - limit) / (NEAR * limit)) ** 2)
    mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = float(np.sum(weights * (x - mean_x) ** 2))
    slope = float(np.sum(weights * (x - mean_x) * (y - mean_y))) / spread if spread else 0.0
    return Line(float(mean_y - slope * mean_x), slope)
