"""Accuracy lost, with the interval of paired differences."""

import keras
import numpy as np
import pytest

from workers.evaluation.lost import at_most, lost, right
from workers.training.data import Samples
from workers.training.objective import Objective, OutputObjective


def test_paired_differences_by_hand() -> None:
    """100 samples, 6 lost and 2 won: 4 points; sd of differences² = (8 - 0.16)/99."""
    before, after = np.ones(100), np.ones(100)
    after[:6] = 0.0
    before[6:8] = 0.0
    found = lost([before], [after])
    half = 1.959964 * np.sqrt((8 - 100 * 0.04**2) / 99) * 100 / 10
    assert found.points == pytest.approx(4.0)
    assert found.interval == pytest.approx((4.0 - half, 4.0 + half), rel=1e-6)
    assert at_most(found.points, found.interval) == pytest.approx(4.0 + half * 1.644854 / 1.959964)


def test_the_output_that_lost_most_counts() -> None:
    whole = np.ones(10)
    half = np.array([0.0] * 5 + [1.0] * 5)
    assert lost([whole, whole], [whole, half]).points == pytest.approx(50.0)
    assert lost([half], [whole]).points == pytest.approx(-50.0)
    assert lost([whole], [whole]).interval == (0.0, 0.0)


def test_right_is_asked_of_outputs_with_classes_only() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    x = np.eye(3, dtype=np.float32)
    labels = Samples({"x": x}, (np.array([0, 1, 1]),), 3)
    classes = OutputObjective("out", "sparse_categorical_crossentropy", False, ())
    (found,) = right(model, labels, Objective((classes,), ()))
    assert found.tolist() == [1.0, 1.0, 0.0]
    values = OutputObjective("out", "mean_squared_error", False, ())
    assert right(model, labels, Objective((values,), ())) == []
