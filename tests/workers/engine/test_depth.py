"""Residual blocks and layers that are left out as a whole."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine import zoo_blocks
from tests.workers.engine.zoo import lenet, mlp, randomise, residual
from workers.engine import DepthCut, Progress, apply, begin, choose, count, predict, prove
from workers.engine.depth import blocks


def spec(**settings: Any) -> Prune:
    target = {"kind": "fraction", "remove": 0.5}
    return Prune.model_validate({"granularity": "layer", "target": target} | settings)


def depth_cut(model: Any, prune: Prune, progress: Progress | None = None) -> DepthCut:
    cut = choose(model, prune, progress=progress)
    assert isinstance(cut, DepthCut)
    return cut


def ladder() -> Any:
    """Four residual blocks and two plain layers that keep the shape; block 2 is the weakest."""
    i = keras.Input((8,))
    x = layers.Dense(8, name="stem")(layers.Dense(6, name="narrow")(i))
    for number in range(4):
        y = layers.Dense(12, activation="relu", name=f"wide_{number}")(x)
        y = layers.Dense(8, name=f"back_{number}")(y)
        x = layers.Add(name=f"add_{number}")([x, y])
    x = layers.Dense(8, activation="tanh", name="same")(x)
    model = randomise(keras.Model(i, layers.Dense(3, name="out")(x)))
    for name, factor in (("wide_2", 0.1), ("back_2", 0.1), ("same", 0.5), ("wide_0", 0.7)):
        layer = model.get_layer(name)
        layer.kernel.assign(layer.kernel * factor)
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return ladder()


def test_blocks_are_found_in_model_order(model: Any) -> None:
    assert [block.layers for block in blocks(model)] == [
        ("wide_0", "back_0", "add_0"),
        ("wide_1", "back_1", "add_1"),
        ("wide_2", "back_2", "add_2"),
        ("wide_3", "back_3", "add_3"),
        ("same",),
    ]


def test_the_weakest_block_goes_first(model: Any) -> None:
    cut = depth_cut(model, spec(target={"kind": "fraction", "remove": 0.2}))
    assert cut.blocks == ("wide_2…add_2",)
    assert [row.name for row in cut.summary if row.removed] == ["wide_2", "back_2", "add_2"]


@pytest.mark.parametrize("remove", [0.2, 0.4, 0.8])
def test_what_is_left_out_is_predicted_proven_and_saved(
    model: Any, remove: float, tmp_path: Path
) -> None:
    before = [np.array(v) for v in model.get_weights()]
    cut = depth_cut(model, spec(target={"kind": "fraction", "remove": remove}))
    shallow = apply(model, cut)
    assert len(cut.blocks) == round(remove * 5)
    assert prove(model, shallow, cut).holds
    assert predict(model, cut) == count(shallow)
    shallow.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert prove(model, loaded, cut).holds
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_budgets_are_met(model: Any) -> None:
    cut = depth_cut(model, spec(target={"kind": "macs", "keep": 0.6}))
    after, before = predict(model, cut).macs, count(model).macs
    assert after <= 0.6 * before
    with pytest.raises(EngineRefusal, match=r"0\.1\w+ remain"):
        choose(model, spec(target={"kind": "parameters", "keep": 0.01}))


def test_steps_end_where_one_step_does(model: Any) -> None:
    first = depth_cut(model, spec(target={"kind": "fraction", "remove": 0.8}))
    progress = begin(model)
    half = choose(model, spec(target={"kind": "fraction", "remove": 0.8}), share=0.5)
    assert isinstance(half, DepthCut)
    assert len(half.blocks) == 2
    rest = depth_cut(apply(model, half), spec(target={"kind": "fraction", "remove": 0.8}), progress)
    assert {*half.blocks, *rest.blocks} == {*first.blocks}


def test_skipped_layers_keep_their_block(model: Any) -> None:
    skip = [{"match": "back_*", "skip": True}]
    assert depth_cut(model, spec(layers=skip)).blocks == ("same",)


@pytest.mark.parametrize("build", [zoo_blocks.vit, residual, zoo_blocks.mixer])
def test_blocks_of_networks(build: Any) -> None:
    model = randomise(build())
    cut = depth_cut(model, spec())
    assert cut.blocks
    assert prove(model, apply(model, cut), cut).holds
    assert predict(model, cut) == count(apply(model, cut))


def test_a_branch_that_is_read_elsewhere_stays() -> None:
    i = keras.Input((4,))
    x = layers.Dense(6, name="stem")(i)
    y = layers.Dense(6, activation="relu", name="branch")(x)
    z = layers.Add()([x, y])
    model = keras.Model(i, [layers.Dense(2)(z), layers.Dense(2)(y)])
    # The block's middle is read by an output, the layer alone may still be left out.
    assert [block.layers for block in blocks(model)] == [("branch",)]


@pytest.mark.parametrize("build", [mlp, lenet])
def test_a_model_without_blocks_is_told(build: Any) -> None:
    with pytest.raises(EngineRefusal, match="no layer or residual block"):
        choose(build(), spec())
