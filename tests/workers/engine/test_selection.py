"""What is chosen: golden values (DESIGN §4), targets, overrides, limits and refusals."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, lenet, mlp, randomise, residual
from workers.engine import WeightCut, apply, choose, count, predict

W = [[6, 3, 9], [1, 5, 7], [4, 8, 2]]


@pytest.fixture(scope="module")
def golden() -> Any:
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, name="golden"),
            layers.Dense(2, name="out"),
        ]
    )
    model.get_layer("golden").set_weights([np.array(W, np.float32), np.ones(3)])
    return model


@pytest.fixture(scope="module")
def net() -> Any:
    return randomise(mlp())


@pytest.fixture(scope="module")
def cnn() -> Any:
    return randomise(lenet())


def prune(**fields: Any) -> Prune:
    return Prune.model_validate({"target": {"kind": "fraction", "remove": 0.5}, **fields})


def remove(share: float) -> dict[str, Any]:
    return {"kind": "fraction", "remove": share}


def removed(cut: Any) -> dict[str, int]:
    return {row.name: row.removed for row in cut.summary}


def test_golden_weights(golden: Any) -> None:
    cut = choose(golden, prune(granularity="weight", target=remove(0.34)))
    kernel = apply(golden, cut).get_layer("golden").get_weights()[0]
    assert kernel.tolist() == [[6, 0, 9], [0, 5, 7], [4, 8, 0]]


def test_golden_units(golden: Any) -> None:
    cut = cut_units(golden, prune(granularity="unit", target=remove(0.33)))
    assert {name: gone.tolist() for name, gone in cut.removed.items()} == {"golden": [0]}
    kernel = apply(golden, cut).get_layer("golden").get_weights()[0]
    assert kernel.tolist() == [[3, 9], [5, 7], [8, 2]]


def test_weights_of_the_last_layer_go_too_and_biases_stay(net: Any) -> None:
    cut = choose(net, prune(granularity="weight", target=remove(0.9)))
    reduced = apply(net, cut)
    assert removed(cut) == {"dense_1": 540, "dense_2": 270, "predictions": 36}
    assert count(reduced).nonzero_parameters == 600 + 300 + 40 - 540 - 270 - 36 + 44
    assert count(reduced).parameters == count(net).parameters


def test_weights_compete_by_magnitude(net: Any) -> None:
    cut = choose(net, prune(granularity="weight", scope="global"))
    assert isinstance(cut, WeightCut)
    kernels = [layer.get_weights()[0] for layer in net.layers if layer.get_weights()]
    kept = [np.abs(k[m]) for k, m in zip(kernels, cut.masks.values(), strict=True)]
    gone = [np.abs(k[~m]) for k, m in zip(kernels, cut.masks.values(), strict=True)]
    assert sum(g.size for g in gone) == 470
    assert np.concatenate(gone).max() <= np.concatenate(kept).min()


def test_threshold_is_quality_times_deviation(net: Any) -> None:
    criterion = {"kind": "threshold", "quality": 0.7}
    cut = choose(net, prune(granularity="weight", target=None, criterion=criterion))
    assert isinstance(cut, WeightCut)
    for key, mask in cut.masks.items():
        kernel = net.get_layer(key.split("/")[0]).get_weights()[0]
        assert np.array_equal(mask, np.abs(kernel) >= np.float32(0.7 * kernel.std(dtype=float)))


def test_chance_depends_on_the_seed_alone(net: Any) -> None:
    spec = prune(criterion="random")
    first, again, other = (cut_units(net, spec, seed=s) for s in (1, 1, 2))
    assert [g.tolist() for g in first.removed.values()] == [
        g.tolist() for g in again.removed.values()
    ]
    assert [g.tolist() for g in first.removed.values()] != [
        g.tolist() for g in other.removed.values()
    ]


@pytest.mark.parametrize("keep", [0.2, 0.45, 0.7])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("kind", ["parameters", "macs"])
def test_targets_are_met_from_below(cnn: Any, kind: str, scope: str, keep: float) -> None:
    cut = choose(cnn, prune(scope=scope, target={"kind": kind, "keep": keep}))
    before, after = getattr(count(cnn), kind), getattr(predict(cnn, cut), kind)
    assert 0.96 * keep * before < after <= keep * before


@pytest.mark.parametrize(("kind", "keep"), [("macs", 0.16), ("macs", 0.13), ("parameters", 0.5)])
def test_cheap_units_fill_a_budget_and_convolutions_keep_multiples(kind: str, keep: float) -> None:
    model = randomise(lenet(20, 50, 500, side=28))
    cut = choose(model, prune(target={"kind": kind, "keep": keep}))
    first, second = (row.before - row.removed for row in cut.summary[:2])
    assert (first % 4, second % 8) == (0, 0)
    before, after = getattr(count(model), kind), getattr(predict(model, cut), kind)
    assert 0.99 * keep * before < after <= keep * before


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_nonzero_parameters_are_met_exactly(net: Any, scope: str) -> None:
    spec = prune(granularity="weight", scope=scope, target={"kind": "parameters", "keep": 0.25})
    after = predict(net, choose(net, spec)).nonzero_parameters
    assert 0.25 * count(net).parameters - 3 <= after <= 0.25 * count(net).parameters


def test_a_target_out_of_reach_is_refused_with_the_smallest_share(net: Any) -> None:
    spec = prune(target={"kind": "parameters", "keep": 0.01})
    with pytest.raises(EngineRefusal, match=r"smallest share .* is 0\.0315.*predictions"):
        choose(net, spec)
    with pytest.raises(EngineRefusal, match=r"smallest share .* is 0\.0447"):
        choose(net, prune(granularity="weight", target={"kind": "parameters", "keep": 0.01}))


OVERRIDES: list[tuple[list[dict[str, Any]], dict[str, int]]] = [
    ([], {"dense_1": 15, "dense_2": 5, "predictions": 0}),
    ([{"match": "dense_?", "max_remove": 0.33}], {"dense_1": 9, "dense_2": 3, "predictions": 0}),
    ([{"match": "*_2", "remove": 0.8}], {"dense_1": 15, "dense_2": 8, "predictions": 0}),
    ([{"match": "dense_1", "skip": True}], {"dense_1": 0, "dense_2": 5, "predictions": 0}),
    (
        [{"match": "*", "skip": True}, {"match": "dense_2", "remove": 0.2}],
        {"dense_1": 0, "dense_2": 2, "predictions": 0},
    ),
]


@pytest.mark.parametrize(("overrides", "gone"), OVERRIDES)
def test_overrides(net: Any, overrides: list[dict[str, Any]], gone: dict[str, int]) -> None:
    assert removed(choose(net, prune(layers=overrides))) == gone


def test_overrides_hold_for_weights_and_where_layers_compete(net: Any) -> None:
    overrides = [{"match": "dense_1", "skip": True}, {"match": "dense_2", "max_remove": 0.1}]
    spec = prune(granularity="weight", scope="global", layers=overrides)
    assert removed(choose(net, spec)) == {"dense_1": 0, "dense_2": 30, "predictions": 40}
    spec = prune(scope="global", layers=[{"match": "dense_2", "max_remove": 0.1}])
    assert removed(choose(net, spec)) == {"dense_1": 19, "dense_2": 1, "predictions": 0}


def test_skip_of_one_skips_all_that_is_coupled() -> None:
    model = randomise(residual())
    names = [layer.name for layer in model.layers if layer.name.startswith("conv2d")]
    first, coupled = names[0], names[2]
    cut = choose(model, prune(layers=[{"match": coupled, "skip": True}]))
    assert removed(cut)[first] == removed(cut)[coupled] == 0
    notes = {row.name: row.note for row in cut.summary}
    assert "skipped" in (notes[first] or "")


def test_min_units_and_round_to_are_reported(net: Any) -> None:
    rows = {r.name: r for r in choose(net, prune(min_units=8, target=remove(0.9))).summary}
    assert (rows["dense_2"].removed, rows["dense_2"].asked) == (2, 9)
    assert rows["dense_2"].note == "its last units stay: min_units is 8"
    rows = {r.name: r for r in choose(net, prune(round_to=8)).summary}
    assert (rows["dense_1"].removed, rows["dense_1"].asked) == (14, 15)
    assert rows["dense_1"].note == "kept a multiple of 8"
    assert rows["predictions"].note == "predictions ends in softmax, which mixes its channels"


def test_one_unit_always_stays(net: Any) -> None:
    for scope in ("layer", "global"):
        cut = choose(net, prune(scope=scope, target=remove(0.999)))
        assert removed(cut) == {"dense_1": 29, "dense_2": 9, "predictions": 0}


def test_nothing_to_remove_is_refused_with_each_reason() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="only")])
    with pytest.raises(EngineRefusal, match="only: it is an output of the model") as refusal:
        choose(model, prune())
    assert refusal.value.errors == ({"field": "only", "detail": "it is an output of the model"},)
    with pytest.raises(EngineRefusal, match="no kernels, or the spec skips"):
        choose(model, prune(granularity="weight", layers=[{"match": "*", "skip": True}]))


def test_ties_go_in_model_order() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(4), layers.Dense(4), layers.Dense(1)])
    for variable in model.weights:
        variable.assign(np.ones(variable.shape))
    cut = cut_units(model, prune(scope="global", target=remove(0.5)))
    assert [gone.tolist() for gone in cut.removed.values()] == [[0, 1, 2], [0]]
