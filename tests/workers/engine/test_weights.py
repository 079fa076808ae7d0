"""Granularities n_m and block: what is chosen, over steps, under overrides, and what is said."""

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine.zoo import depthwise, generator, lenet, mlp, randomise, text
from workers.engine import Progress, WeightCut, apply, begin, choose, count, predict, prove

BLOCK = {"kind": "block", "shape": [2, 2]}
W = [[6, 3, 9], [1, 5, 7], [4, 8, 2]]


def prune(granularity: Any, **fields: Any) -> Prune:
    """Half of what the granularity counts, unless the fields say otherwise; n_m says it itself."""
    half = {} if "n_m" in str(granularity) else {"target": {"kind": "fraction", "remove": 0.5}}
    return Prune.model_validate({"granularity": granularity, **half, **fields})


def cut_weights(model: Any, spec: Prune, **more: Any) -> WeightCut:
    cut = choose(model, spec, **more)
    assert isinstance(cut, WeightCut)
    return cut


def rows(cut: WeightCut) -> dict[str, tuple[int, int | None, str | None]]:
    return {row.name: (row.removed, row.asked, row.note) for row in cut.summary}


@pytest.fixture(scope="module")
def golden() -> Any:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="golden")])
    model.get_layer("golden").set_weights([np.array(W, np.float32), np.ones(3)])
    return model


@pytest.fixture(scope="module")
def net() -> Any:
    return randomise(mlp())  # kernels of 20x30, 30x10, 10x4


GOLDEN: list[tuple[Any, list[list[int]]]] = [
    # A run of 3 of 4 keeps ceil(3 * 2 / 4) = 2: the smallest of each column goes.
    ("n_m", [[6, 0, 9], [0, 5, 7], [4, 8, 0]]),
    # Runs of 2 and 1: one of each run of two goes, and none of the last.
    ({"kind": "n_m", "n": 1, "m": 2}, [[6, 0, 9], [0, 5, 0], [4, 8, 2]]),
    # Means 3.75, 8, 6, 2: the last block and the first are the smallest half.
    (BLOCK, [[0, 0, 9], [0, 0, 7], [4, 8, 0]]),
]


@pytest.mark.parametrize(("granularity", "kernel"), GOLDEN, ids=str)
def test_golden(golden: Any, granularity: Any, kernel: list[list[int]]) -> None:
    reduced = apply(golden, cut_weights(golden, prune(granularity)))
    assert reduced.get_layer("golden").get_weights()[0].tolist() == kernel


MODELS = [lenet, depthwise, text, generator]


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("granularity", ["n_m", BLOCK], ids=str)
def test_cuts_are_predicted_and_proven(build: Any, granularity: Any) -> None:
    model = randomise(build())
    cut = cut_weights(model, prune(granularity), seed=3)
    reduced = apply(model, cut)
    assert prove(model, reduced, cut).holds
    assert predict(model, cut) == count(reduced)
    assert sum(row.removed for row in cut.summary) == sum(
        int((~mask).sum()) for mask in cut.masks.values()
    )
    assert count(reduced).nonzero_parameters < count(model).nonzero_parameters
    assert count(reduced).parameters == count(model).parameters


def test_kernels_without_an_input_axis_are_left_and_said_so() -> None:
    cut = cut_weights(randomise(depthwise()), prune("n_m"))
    notes = {row.class_name: (row.removed, row.note) for row in cut.summary}
    removed, note = notes["DepthwiseConv2D"]
    assert removed == 0
    assert "one channel only" in (note or "")
    removed, note = notes["SeparableConv2D"]  # of 20 inputs to 6 outputs pointwise
    assert removed == 60
    assert "one channel only" in (note or "")
    cut = cut_weights(randomise(text()), prune(BLOCK))
    assert "looks rows up" in str([row.note for row in cut.summary])


def test_runs_that_are_too_short_are_said() -> None:
    cut = cut_weights(randomise(lenet()), prune("n_m"))
    first, second = cut.summary[:2]  # 3x3 windows on 1 and on 6 inputs
    assert first.note == "its runs are only 1 long, too short to lose a weight"
    assert (first.removed, first.asked) == (0, 0)
    assert (second.removed, second.asked, second.note) == (9 * 3 * 16, 9 * 3 * 16, None)


def stepwise(model: Any, spec: Prune) -> list[dict[str, Any]]:
    """The masks of each step, where training between steps changes all weights that stay."""
    progress, masks = begin(model), []
    for share in (0.2, 0.5, 0.9, 1.0):
        saved = Progress.from_json(progress.to_json(), progress.masks)
        cut = cut_weights(model, spec, share=share, progress=saved)
        masks.append(dict(cut.masks))
        model, progress = randomise(apply(model, cut), seed=len(masks)), cut.progress
        for key, mask in cut.masks.items():
            variable = model.get_layer(key.split("/")[0]).weights[0]
            variable.assign(np.where(mask, np.array(variable), 0))
    return masks


SCHEDULED: list[dict[str, Any]] = [
    {"granularity": "n_m"},
    {"granularity": {"kind": "n_m", "n": 1, "m": 5}, "criterion": "random"},
    {"granularity": BLOCK, "target": {"kind": "fraction", "remove": 0.7}},
    {"granularity": BLOCK, "target": {"kind": "fraction", "remove": 0.7}, "scope": "global"},
]


@pytest.mark.parametrize("fields", SCHEDULED, ids=str)
def test_steps_are_nested_and_end_at_the_one_shot_counts(net: Any, fields: dict[str, Any]) -> None:
    spec = Prune.model_validate(fields)
    steps = stepwise(net, spec)
    for earlier, later in pairwise(steps):
        for key, mask in later.items():
            assert not (mask & ~earlier[key]).any()
    once = cut_weights(net, spec)
    assert sum(m.sum() for m in steps[-1].values()) == sum(m.sum() for m in once.masks.values())
    assert sum(m.sum() for m in steps[0].values()) > sum(m.sum() for m in steps[-1].values())


def test_a_step_of_n_m_rounds_each_run_down(net: Any) -> None:
    cut = cut_weights(net, prune("n_m"), share=0.5)  # 1 of 4; of the last 2 inputs none
    assert rows(cut) == {
        "dense_1": (5 * 30, 150, None),
        "dense_2": (7 * 10, 70, None),
        "predictions": (2 * 4, 8, None),
    }


def test_a_share_of_blocks_per_layer_counts_weights_in_its_lines(net: Any) -> None:
    # Blocks of 8x8 (inputs by outputs): 3x4, 4x2 and 2x1; round(0.5 * n) of each go.
    cut = cut_weights(net, prune({"kind": "block", "shape": [8, 8]}))
    for key, mask in cut.masks.items():
        whole = [
            mask[i : i + 8, j : j + 8]
            for i in range(0, mask.shape[0], 8)
            for j in range(0, mask.shape[1], 8)
        ]
        assert {bool(block.any()) for block in whole} == {True, False}
        assert all(block.all() or not block.any() for block in whole), key
        assert sum(not block.any() for block in whole) == round(0.5 * len(whole))
    assert all(row.removed == row.asked for row in cut.summary)


def test_less_than_one_block_is_said(net: Any) -> None:
    spec = prune({"kind": "block", "shape": [16, 16]}, target={"kind": "fraction", "remove": 0.3})
    assert rows(cut_weights(net, spec))["predictions"] == (
        0,
        0,
        "the share asks for less than one of its 1 blocks",
    )


def test_blocks_of_all_layers_compete_by_their_means(net: Any) -> None:
    cut = cut_weights(net, prune({"kind": "block", "shape": [5, 2]}, scope="global"))
    means = {True: [], False: []}
    for key, mask in cut.masks.items():
        kernel = np.abs(net.get_layer(key.split("/")[0]).get_weights()[0])
        for i in range(0, mask.shape[0], 5):
            for j in range(0, mask.shape[1], 2):
                block = (slice(i, i + 5), slice(j, j + 2))
                means[bool(mask[block].all())].append(kernel[block].mean(dtype=float))
    assert len(means[False]) == 47  # of 4 * 15 + 6 * 5 + 2 * 2 = 94 blocks
    assert max(means[False]) <= min(means[True])
    assert {row.asked for row in cut.summary} == {None}


OVERRIDES = [
    {"match": "dense_1", "skip": True},
    {"match": "dense_2", "max_remove": 0.3},
    {"match": "predictions", "remove": 0.8},
]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_overrides_hold_for_blocks(net: Any, scope: str) -> None:
    found = rows(cut_weights(net, prune(BLOCK, scope=scope, layers=OVERRIDES)))
    assert found["dense_1"] == (0, None, "skipped by the spec")
    # 15 * 5 blocks of 4 weights: int(0.3 * 75) = 22 go.
    assert found["dense_2"][::2] == (88, "held at its max_remove of 0.3")
    assert found["predictions"] == (32, 32, None)  # 8 of 5 * 2 blocks


def test_overrides_hold_for_n_m(net: Any) -> None:
    spec = prune({"kind": "n_m", "n": 1, "m": 5}, layers=OVERRIDES[:2])
    assert rows(cut_weights(net, spec)) == {
        "dense_1": (0, None, "skipped by the spec"),
        # 6 runs of 5 in 10 columns: 4 of each are asked for, int(0.3 * 5) = 1 goes.
        "dense_2": (60, 240, "held at its max_remove of 0.3"),
        "predictions": (2 * 4 * 4, 32, None),
    }


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("keep", [0.25, 0.6])
def test_blocks_meet_a_parameters_target_from_below(net: Any, scope: str, keep: float) -> None:
    spec = prune(BLOCK, scope=scope, target={"kind": "parameters", "keep": keep})
    limit = keep * count(net).parameters
    cut = cut_weights(net, spec)
    after = predict(net, cut).nonzero_parameters
    assert limit - 3 * 4 <= after <= limit  # a block of 4 for each kernel
    again = cut_weights(apply(net, cut), spec, progress=cut.progress)
    assert all(np.array_equal(again.masks[key], mask) for key, mask in cut.masks.items())


def test_a_target_out_of_reach_is_refused(net: Any) -> None:
    with pytest.raises(EngineRefusal, match=r"smallest share .* is 0\.0447"):
        choose(net, prune(BLOCK, target={"kind": "parameters", "keep": 0.01}))


def test_nothing_but_depthwise_kernels_is_refused_with_the_reason() -> None:
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.DepthwiseConv2D(2, name="deep")])
    with pytest.raises(EngineRefusal, match="as granularity n_m needs") as refusal:
        choose(model, prune("n_m"))
    assert refusal.value.errors[0]["field"] == "deep"
