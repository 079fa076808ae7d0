"""The engine's choices as the search sees them."""

from typing import Any

import pytest

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import lenet, mlp, randomise
from workers import engine
from workers.search.ladder import Choose, Ladder


@pytest.fixture(scope="module")
def net() -> Any:
    return randomise(lenet())


def prune(**fields: Any) -> Prune:
    return Prune.model_validate({"target": {"kind": "bytes", "max": 1}, **fields})


def choose(model: Any) -> Choose:
    return lambda spec: engine.choose(model, spec)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_floor_keeps_the_units_that_every_layer_must_keep(net: Any, scope: str) -> None:
    floor = Ladder(net, prune(scope=scope, min_units=2), "parameters", choose(net)).floor()
    reduced = engine.count(engine.apply(net, floor.cut))
    units = [layer.units for layer in reduced.layers if layer.units is not None]
    assert units == [2, 2, 2, 10]
    assert (floor.parameters, floor.macs) == (reduced.parameters, reduced.macs)


def test_a_floor_that_budgets_do_not_reach_is_found_above(net: Any) -> None:
    """Budgets may keep multiples of units where a share does not."""
    spec = prune()

    def stepwise(asked: Prune) -> engine.Cut:
        if asked.target is not None and asked.target.kind == "fraction":
            return engine.choose(net, asked)
        return engine.choose(net, asked.model_copy(update={"round_to": 4}))

    floor = Ladder(net, spec, "parameters", stepwise).floor()
    reduced = engine.count(engine.apply(net, floor.cut))
    assert [layer.units for layer in reduced.layers if layer.units is not None] == [4, 4, 4, 10]


@pytest.mark.parametrize("lever", ["parameters", "macs"])
def test_a_size_that_was_found_is_found_again(net: Any, lever: Any) -> None:
    """So that the job's cut is the one that was measured."""
    ladder = Ladder(net, prune(), lever, choose(net))
    for share in (0.2, 0.5, 0.8):
        first = ladder.at_most(int(share * ladder.size(ladder.original)))
        assert first is not None
        again = engine.predict(net, engine.choose(net, ladder.equivalent(ladder.size(first))))
        assert (again.parameters, again.macs) == (first.parameters, first.macs)


def test_nothing_below_the_floor_and_nothing_removed_is_no_choice(net: Any) -> None:
    ladder = Ladder(net, prune(), "parameters", choose(net))
    assert ladder.at_most(ladder.floor().parameters - 1) is None
    assert ladder.at_most(ladder.original.parameters) is None


def test_a_model_of_which_nothing_may_go_is_refused_with_the_reason() -> None:
    model = mlp()
    spec = prune(layers=[{"match": "*", "skip": True}])
    with pytest.raises(EngineRefusal, match="dense_1: skipped by the spec"):
        Ladder(model, spec, "parameters", choose(model)).floor()
