"""What a sweep is made of, and which of its models nothing else beats."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.pareto import Point, by_interest, on_front
from app.domain.sweep import MOST_JOBS, SweepSpec, members

BASE: dict[str, Any] = {"model": "mdl_1", "prune": {"granularity": "unit"}}


def sweep(**parts: Any) -> SweepSpec:
    return SweepSpec.model_validate(parts)


# --- members -----------------------------------------------------------------------------------
def test_a_grid_tries_every_value_with_every_other() -> None:
    grid = {"prune.granularity": ["weight", "unit"], "prune.target.remove": [0.1, 0.2, 0.3]}
    found = list(members(sweep(base=BASE, grid=grid)))
    assert [list(member.varied.values()) for member in found] == [
        ["weight", 0.1],
        ["weight", 0.2],
        ["weight", 0.3],
        ["unit", 0.1],
        ["unit", 0.2],
        ["unit", 0.3],
    ]
    assert found[3].spec == {
        "model": "mdl_1",
        "prune": {"granularity": "unit", "target": {"remove": 0.1}},
    }
    assert found[3].at == "grid (prune.granularity = 'unit', prune.target.remove = 0.1)"


def test_the_base_is_not_changed() -> None:
    asked = sweep(base=BASE, grid={"prune.target": [{"kind": "macs", "keep": 0.5}], "seed": [1, 2]})
    first, second = members(asked)
    assert asked.base == BASE
    assert (first.spec["seed"], second.spec["seed"]) == (1, 2)


def test_a_bare_name_gets_fields() -> None:
    base = {"model": "mdl_1", "prune": {"criterion": "taylor"}}
    (found,) = members(sweep(base=base, grid={"prune.criterion.samples": [64]}))
    assert found.spec["prune"]["criterion"] == {"kind": "taylor", "samples": 64}


def test_a_list_is_taken_as_it_is() -> None:
    found = list(members(sweep(specs=[BASE, BASE | {"seed": 1}])))
    assert [member.spec for member in found] == [BASE, BASE | {"seed": 1}]
    assert [(member.at, member.varied) for member in found] == [
        ("specs.0", {"spec": 0}),
        ("specs.1", {"spec": 1}),
    ]


def test_a_path_into_a_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="deeper"):
        list(members(sweep(base=BASE | {"seed": 3}, grid={"seed.deeper": [1]})))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "either specs, or base"),
        ({"specs": [BASE], "base": BASE, "grid": {"seed": [1]}}, "either specs, or base"),
        ({"specs": [BASE], "grid": {"seed": [1]}}, "give base instead"),
        ({"base": BASE}, "what varies"),
        ({"base": BASE, "grid": {"seed": []}}, "no value"),
        ({"base": BASE, "grid": {"seed": list(range(MOST_JOBS + 1))}}, "at most"),
        ({"base": BASE, "grid": {"seed": [1]}, "nmae": "x"}, "nmae"),
    ],
)
def test_what_is_no_sweep(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        sweep(**parts)


@pytest.mark.parametrize("bad", ["\0", "\ud800", float("inf"), {"\0": 1}, [[float("nan")]]])
@pytest.mark.parametrize("place", ["base", "grid", "specs"])
def test_what_no_database_can_keep(place: str, bad: Any) -> None:
    parts: dict[str, dict[str, Any]] = {
        "base": {"base": {"seed": bad}, "grid": {"seed": [1]}},
        "grid": {"base": BASE, "grid": {"seed": [bad]}},
        "specs": {"specs": [{"seed": bad}]},
    }
    with pytest.raises(ValidationError):
        sweep(**parts[place])


# --- the Pareto front --------------------------------------------------------------------------
def point(size: float, value: float | None, metric: str = "accuracy") -> Point:
    return Point(sizes=(size, size), metric=metric, value=value)


def test_what_is_beaten_is_not_on_the_front() -> None:
    points = [point(10, 0.9), point(5, 0.9), point(20, 0.95), point(30, 0.95), None]
    assert on_front(points) == [False, True, True, False, False]


def test_equals_are_both_on_the_front() -> None:
    assert on_front([point(5, 0.9), point(5, 0.9)]) == [True, True]


def test_an_error_is_better_when_it_is_lower() -> None:
    points = [point(5, 0.1, "mean_squared_error"), point(5, 0.2, "mean_squared_error")]
    assert on_front(points) == [True, False]


def test_models_are_compared_by_their_metric_rather_than_by_their_loss() -> None:
    assert by_interest(["loss", "accuracy", "auc"]) == ["accuracy", "auc", "loss"]
    assert by_interest(["loss"]) == ["loss"]
    assert on_front([point(5, 0.1, "loss"), point(5, 0.2, "loss")]) == [True, False]


def test_different_metrics_are_not_compared() -> None:
    points = [point(5, 0.9), point(9, 0.5, "mean_squared_error"), point(9, None)]
    assert on_front(points) == [True, True, True]


def test_without_metrics_sizes_count() -> None:
    assert on_front([point(5, None, ""), point(9, None, "")]) == [True, False]
