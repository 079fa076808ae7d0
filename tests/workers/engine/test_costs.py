"""What a call costs as a function of the units kept, and cuts by time."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import depthwise, lenet, randomise
from workers.engine import analyse, apply, choose, count
from workers.engine.costs import Terms, mac_entries, time_entries


def wide_and_deep() -> Any:
    """`early` has 4,096 values and 110,592 MACs a unit; `late` 16 values and 36,864 a unit."""
    i = keras.Input((64, 64, 3))
    x = layers.Conv2D(32, 3, padding="same", activation="swish", name="early")(i)
    x = layers.AveragePooling2D(16)(x)
    x = layers.Conv2D(64, 3, padding="same", name="middle")(x)
    x = layers.Conv2D(64, 3, padding="same", name="late")(x)
    return keras.Model(i, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(wide_and_deep())


def by_time(**asked: Any) -> Prune:
    asked = {"target": {"kind": "fraction", "remove": 0.5}} | asked
    return Prune.model_validate({"scope": "latency", "criterion": "l1"} | asked)


@pytest.mark.parametrize("build", [wide_and_deep, lenet, depthwise])
def test_all_kept_costs_what_the_model_costs(build: Any) -> None:
    net = build()
    analysis = analyse(net)
    terms = Terms(analysis, analysis.groups, mac_entries(analysis))
    kept = np.array([float(group.units.size) for group in analysis.groups])
    assert terms.value(kept) == pytest.approx(count(net).macs)


def test_a_cut_costs_what_is_counted(model: Any) -> None:
    cut = choose(model, by_time())
    analysis = analyse(model)
    terms = Terms(analysis, analysis.groups, mac_entries(analysis))
    removed = {one.name: one.removed for one in cut.summary}
    roots = {group.key: group for group in analysis.groups}
    kept = np.array([float(g.units.size) for g in roots.values()])
    names = [next(name for name in removed if name in key) for key in roots]
    kept -= [removed[name] for name in names]
    assert terms.value(kept) == pytest.approx(count(apply(model, cut)).macs)


def test_the_gradient_is_what_one_unit_more_costs(model: Any) -> None:
    analysis = analyse(model)
    terms = Terms(analysis, analysis.groups, time_entries(analysis))
    kept = np.array([group.units.size / 2 for group in analysis.groups])
    for number, slope in enumerate(terms.gradient(kept)):
        step = np.eye(kept.size)[number] / 2
        difference = terms.value(kept + step) - terms.value(kept - step)
        assert difference == pytest.approx(slope)


def test_units_that_cost_time_and_compute_little_go_first(model: Any) -> None:
    removed = {one.name: one.removed / one.before for one in choose(model, by_time()).summary}
    assert removed["early"] > removed["late"]
    assert removed["early"] > 0.5


def test_exactly_as_many_units_go_as_asked_for(model: Any) -> None:
    summary = choose(model, by_time()).summary
    assert sum(one.removed for one in summary) == (32 + 64 + 64) // 2


def test_multiples_and_limits_hold(model: Any) -> None:
    limit = {"match": "early", "max_remove": 0.25}
    cut = choose(model, by_time(round_to=4, layers=[limit]))
    kept = {one.name: one.before - one.removed for one in cut.summary if one.removed}
    assert all(size % 4 == 0 for size in kept.values())
    assert kept["early"] == 24


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_budgets_are_met_from_below(model: Any, kind: str) -> None:
    cut = choose(model, by_time(target={"kind": kind, "keep": 0.4}))
    share = getattr(count(apply(model, cut)), kind) / getattr(count(model), kind)
    assert 0.36 < share <= 0.4


def test_what_limits_forbid_is_out_of_reach(model: Any) -> None:
    limit = {"match": "*", "max_remove": 0.2}
    with pytest.raises(EngineRefusal, match="MACs"):
        choose(model, by_time(target={"kind": "macs", "keep": 0.05}, layers=[limit]))
