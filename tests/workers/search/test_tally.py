"""The share that is told counts what the target counts."""

from typing import Any

import keras
import pytest
from keras import layers

from app.domain.prune import Prune
from tests.workers.engine.zoo import mlp, randomise, residual
from workers import engine
from workers.search.tally import Tally


def attends() -> Any:
    i = keras.Input((6, 16))
    x = layers.Add()([i, layers.MultiHeadAttention(4, 8)(i, i)])
    return keras.Model(i, layers.Dense(3)(layers.Dense(32)(x)))


def spec(granularity: Any, **more: Any) -> Prune:
    asked = {"granularity": granularity, "target": {"kind": "fraction", "remove": 0.5}}
    return Prune.model_validate(asked | more)


@pytest.mark.parametrize("granularity", ["weight", "channel", "head", {"kind": "n_m"}])
def test_half_is_half(granularity: Any) -> None:
    model = randomise(attends())
    asked = {"target": None} if isinstance(granularity, dict) else {}
    tally = Tally().after(engine.choose(model, spec(granularity, **asked)))
    assert tally.removed == tally.total / 2


def test_heads_are_counted_alone() -> None:
    tally = Tally().after(engine.choose(randomise(attends()), spec("head")))
    assert (tally.total, tally.removed, tally.wanted) == (4, 2, 2)


def test_blocks_are_counted_and_not_their_layers() -> None:
    model = randomise(residual())
    cut = engine.choose(model, spec("layer"))
    tally = Tally().after(cut)
    assert isinstance(cut, engine.DepthCut)
    assert (tally.total, tally.removed) == (cut.progress.blocks, len(cut.blocks))
    assert tally.removed == pytest.approx(tally.total / 2, abs=0.5)


def test_what_is_skipped_does_not_count() -> None:
    model = randomise(mlp())
    name = next(layer.name for layer in model.layers if isinstance(layer, layers.Dense))
    skipped = {"match": name, "skip": True}
    tally = Tally().after(engine.choose(model, spec("unit", layers=[skipped])))
    whole = Tally().after(engine.choose(model, spec("unit")))
    assert tally.total < whole.total


def test_steps_add_up_to_the_share_of_the_original() -> None:
    model, tally = randomise(mlp()), Tally()
    progress = engine.begin(model)
    for share in (0.5, 1.0):
        cut = engine.choose(model, spec("unit"), share=share, progress=progress)
        model, progress, tally = engine.apply(model, cut), cut.progress, tally.after(cut)
    assert tally.removed == pytest.approx(tally.total / 2, abs=1)
