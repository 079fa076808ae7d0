"""Criteria against values worked out by hand from each paper's formula."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from app.domain.criteria import Criterion
from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from workers.engine.criteria import UNIT_CRITERIA, WEIGHT_CRITERIA, Seen, as_columns, lamp

W = np.array([[6, 3, 9], [1, 5, 7], [4, 8, 2]], dtype=np.float32)
RANDOM = np.random.default_rng(0)
WHOLE = Seen(
    taylor=np.array([[1, 0, 2], [3, 0, 0], [0, 5, 1]], dtype=np.float32),
    squared_gradient=np.array([[2, 0, 0], [4, 0, 0], [0, 0, 1]], dtype=np.float32),
    signal_to_noise=np.array([[9, 1, 5], [3, 2, 8], [7, 4, 6]], dtype=np.float32),
    input_norm=np.broadcast_to(np.array([[1], [10], [0]], dtype=np.float32), (3, 3)),
    activity=np.array([0.5, 0.0, 2.0]),
    zeros=np.array([0.25, 1.0, 0.0]),
    scale=np.array([-2.0, 1.0, 0.5], dtype=np.float32),
)

# Squares of W in rising order, and the sums of those not smaller:
#   1, 4, 9, 16, 25, 36, 49, 64, 81  ->  285, 284, 280, 271, 255, 230, 194, 145, 81
WEIGHTS: dict[str, Any] = {
    "magnitude": W,
    "l1": W,
    "l2": W,
    "threshold": W,
    "lamp": [
        [36 / 230, 9 / 280, 81 / 81],
        [1 / 285, 25 / 255, 49 / 194],
        [16 / 271, 64 / 145, 4 / 284],
    ],
    "taylor": WHOLE.taylor,
    "fisher": [[36, 0, 0], [2, 0, 0], [0, 0, 2]],
    "wanda": [[6, 3, 9], [10, 50, 70], [0, 0, 0]],
    "variational_dropout": WHOLE.signal_to_noise,
}
# Squared norms of the columns: 53, 98, 134. Squared distances: 41 (first and second), 49 (first
# and third), 76 (second and third).
UNITS: dict[str, Any] = {
    "magnitude": np.sqrt([53, 98, 134]),
    "l1": [11, 16, 18],
    "l2": np.sqrt([53, 98, 134]),
    "lamp": [53 / 285, 98 / 232, 1],
    "geometric_median": [41**0.5 + 7, 41**0.5 + 76**0.5, 7 + 76**0.5],
    "batch_norm_scale": [2, 1, 0.5],
    "taylor": [4, 5, 3],
    "fisher": [38, 0, 2],
    "wanda": [16, 53, 79],
    "apoz": [0.75, 0, 1],
    "activation": [0.5, 0, 2],
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_golden_weights(kind: str) -> None:
    np.testing.assert_allclose(WEIGHT_CRITERIA[kind](W, RANDOM, WHOLE), WEIGHTS[kind], rtol=1e-6)


@pytest.mark.parametrize("kind", UNITS)
def test_golden_units(kind: str) -> None:
    np.testing.assert_allclose(UNIT_CRITERIA[kind](W, RANDOM, WHOLE), UNITS[kind], rtol=1e-6)


def test_the_tables_leave_nothing_but_chance_out() -> None:
    assert WEIGHT_CRITERIA.keys() - WEIGHTS.keys() == {"random"}
    assert UNIT_CRITERIA.keys() - UNITS.keys() == {"random"}
    assert WEIGHT_CRITERIA["random"](W, RANDOM).shape == (3, 3)
    assert UNIT_CRITERIA["random"](W, RANDOM).shape == (3,)


def _kinds() -> list[str]:
    union = get_args(get_args(Criterion)[0])
    return [variant.model_fields["kind"].default for variant in union]


@pytest.mark.parametrize(
    ("granularities", "registry"),
    [
        (("weight", "n_m", "block"), WEIGHT_CRITERIA),
        (("unit", "channel", "head", "layer"), UNIT_CRITERIA),
    ],
)
def test_the_registries_are_what_the_spec_accepts(granularities: Any, registry: Any) -> None:
    accepted = set()
    for granularity in granularities:
        for kind in _kinds():
            for target in (None, {"kind": "fraction", "remove": 0.5}):
                body = {"granularity": granularity, "criterion": kind, "target": target}
                try:
                    Prune.model_validate(body)
                except ValidationError:
                    continue
                accepted.add(kind)
    assert accepted == set(registry)


@pytest.mark.parametrize("registry", [WEIGHT_CRITERIA, UNIT_CRITERIA], ids=["weights", "units"])
def test_the_registries_are_read_only(registry: Any) -> None:
    with pytest.raises(TypeError):
        registry["magnitude"] = None


@pytest.mark.parametrize(
    ("registry", "kinds"),
    [
        (WEIGHT_CRITERIA, ["taylor", "fisher", "wanda", "variational_dropout"]),
        (UNIT_CRITERIA, ["taylor", "fisher", "wanda", "apoz", "activation"]),
    ],
    ids=["weights", "units"],
)
def test_without_evidence_those_that_need_it_refuse(registry: Any, kinds: list[str]) -> None:
    for kind in kinds:
        with pytest.raises(EngineRefusal, match=f"Criterion {kind} looks at data"):
            registry[kind](W, RANDOM)


def test_lamp_gives_equals_the_same_and_zeros_nothing() -> None:
    assert lamp(np.array([3.0, -3.0, 0.0])).tolist() == [0.5, 0.5, 0.0]
    assert lamp(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


@given(hnp.arrays(np.float64, 12, elements=st.integers(-9, 9).map(float)))
def test_lamp_orders_as_magnitude_does(weights: np.ndarray) -> None:
    by_score = np.argsort(lamp(weights), kind="stable")
    assert by_score.tolist() == np.argsort(np.abs(weights), kind="stable").tolist()


def test_without_a_batch_normalisation_the_norm_counts() -> None:
    by_norm = UNIT_CRITERIA["batch_norm_scale"](W, RANDOM)
    assert by_norm.tolist() == UNIT_CRITERIA["l2"](W, RANDOM).tolist()


def test_distances_between_near_columns_do_not_cancel() -> None:
    columns = np.full((4, 3), 1e4, dtype=np.float32)
    columns[0, 2] += 1.0
    np.testing.assert_allclose(UNIT_CRITERIA["geometric_median"](columns, RANDOM), [1, 1, 2])


def test_distances_of_many_columns_are_those_of_few_at_a_time(monkeypatch: Any) -> None:
    columns = np.random.default_rng(1).standard_normal((5, 7))
    whole = UNIT_CRITERIA["geometric_median"](columns, RANDOM)
    monkeypatch.setattr("workers.engine.criteria._COLUMNS_AT_ONCE", 3)
    np.testing.assert_allclose(UNIT_CRITERIA["geometric_median"](columns, RANDOM), whole)
    by_hand = np.linalg.norm(columns[:, :, None] - columns[:, None, :], axis=0).sum(axis=1)
    np.testing.assert_allclose(whole, by_hand)


@pytest.mark.parametrize(
    ("axes", "shape"), [(0, (20, 3)), (1, (15, 4)), (-1, (12, 5)), ((1, 2), (3, 20))]
)
def test_kernel_and_evidence_turn_alike(axes: Any, shape: tuple[int, int]) -> None:
    kernel = np.arange(60.0).reshape(3, 4, 5)
    seen = Seen(taylor=kernel, input_norm=np.broadcast_to(kernel[:, :1, :1], kernel.shape))
    turned = seen.along(axes)
    assert turned.taylor is not None
    assert turned.taylor.shape == shape
    assert np.array_equal(turned.taylor, as_columns(kernel, axes))
    assert turned.input_norm is not None
    assert np.array_equal(turned.input_norm, as_columns(kernel // 20 * 20, axes))


def test_columns_along_several_axes_come_row_by_row() -> None:
    kernel = np.arange(24).reshape(2, 3, 4)
    assert as_columns(kernel, (1, 2)).tolist() == kernel.reshape(2, 12).tolist()
    assert as_columns(kernel, (0, 1))[:, 5].tolist() == kernel[1, 2].tolist()
