"""From columns to units, and from groups to a common scale: tables worked out by hand."""

from typing import Any, get_args

import numpy as np
import pytest

from app.domain.prune import Prune
from workers.engine.saliency import Normalisation, Reduction, normalise, reduce_members

# Unit 0 owns two columns of the first kernel and one of the second, unit 1 one of each, unit 2 one
# of the second only, unit 3 none. The column with 100 belongs to no unit.
MEMBERS = [
    (np.array([2.0, 4.0, 100.0, 1.0]), np.array([0, 0, -1, 1])),
    (np.array([9.0, 7.0, 5.0]), np.array([0, 2, 1])),
]
REDUCED: dict[str, list[float]] = {
    "mean": [5, 3, 7, 0],
    "sum": [15, 6, 7, 0],
    "max": [9, 5, 7, 0],
    "first": [3, 1, 7, 0],
}
SALIENCY = np.array([3.0, 0.0, 6.0, 3.0])
NORMALISED: dict[str, list[float]] = {
    "none": [3, 0, 6, 3],
    "mean": [1, 0, 2, 1],
    "max": [0.5, 0, 1, 0.5],
    # Mean 3, variance (0 + 9 + 9 + 0) / 4.
    "gaussian": [0, -(2**0.5), 2**0.5, 0],
    # Squares 9, 0, 36, 9; sums of those not smaller 54, 54, 36, 54.
    "lamp": [9 / 54, 0, 1, 9 / 54],
}


@pytest.mark.parametrize("how", REDUCED)
def test_golden_reductions(how: Any) -> None:
    assert reduce_members(MEMBERS, 4, how).tolist() == REDUCED[how]


@pytest.mark.parametrize("how", NORMALISED)
def test_golden_normalisations(how: Any) -> None:
    np.testing.assert_allclose(normalise(SALIENCY, how), NORMALISED[how])


@pytest.mark.parametrize(
    ("how", "same", "nothing"),
    [("none", 0.1, 0), ("mean", 1, 0), ("max", 1, 0), ("gaussian", 0, 0), ("lamp", 1 / 3, 0)],
)
def test_constants(how: Any, same: float, nothing: float) -> None:
    np.testing.assert_allclose(normalise(np.full(3, 0.1), how), [same] * 3)
    assert normalise(np.zeros(3), how).tolist() == [nothing] * 3


def test_the_ways_are_those_of_the_spec() -> None:
    fields = Prune.model_fields
    assert get_args(Reduction) == get_args(fields["reduction"].annotation) == tuple(REDUCED)
    ways = get_args(fields["normalisation"].annotation)
    assert get_args(Normalisation) == ways == tuple(NORMALISED)
