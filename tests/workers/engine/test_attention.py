"""Heads and the dimensions within them; grids of units; isomorphic groups."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from tests.workers.engine import zoo_blocks
from tests.workers.engine.zoo import cut_units, lenet, randomise
from workers.engine import analyse, apply, choose, count, predict, prove


def spec(granularity: str = "channel", **settings: Any) -> Prune:
    target = {"kind": "fraction", "remove": 0.5}
    return Prune.model_validate({"granularity": granularity, "target": target} | settings)


@pytest.fixture(scope="module")
def vit() -> Any:
    return randomise(zoo_blocks.vit())


def attentions(model: Any) -> list[Any]:
    return [x for x in model.layers if isinstance(x, layers.MultiHeadAttention)]


def test_heads_go_and_dimensions_stay(vit: Any) -> None:
    cut = cut_units(vit, spec("head"))
    reduced = apply(vit, cut)
    assert [layer.num_heads for layer in attentions(reduced)] == [2, 2]
    assert [layer.key_dim for layer in attentions(reduced)] == [4, 4]
    assert prove(vit, reduced, cut).holds
    assert predict(vit, cut) == count(reduced)
    assert {name.split(".")[1] for name in cut.removed} == {"heads"}


def test_channels_are_dimensions_of_heads_and_the_width(vit: Any) -> None:
    cut = cut_units(vit, spec())
    reduced = apply(vit, cut)
    assert [layer.num_heads for layer in attentions(reduced)] == [4, 4]
    assert [layer.key_dim for layer in attentions(reduced)] == [2, 2]
    assert [layer.value_dim for layer in attentions(reduced)] == [2, 2]
    wide = [x.units for x in reduced.layers if isinstance(x, layers.Dense)]
    assert wide == [12, 8, 12, 8, 3]
    widths = {x.output.shape[-1] for x in reduced.layers if isinstance(x, layers.Add)}
    assert widths == {8}, "the residual width is pruned alike in all blocks"


def test_the_width_stays_where_the_spec_skips_it(vit: Any) -> None:
    cut = cut_units(vit, spec(layers=[{"match": "conv2d*", "skip": True}]))
    reduced = apply(vit, cut)
    assert {x.output.shape[-1] for x in reduced.layers if isinstance(x, layers.Add)} == {16}
    assert prove(vit, reduced, cut).holds


def test_heads_meet_a_budget(vit: Any) -> None:
    cut = choose(vit, spec("head", target={"kind": "macs", "keep": 0.9}))
    assert predict(vit, cut).macs <= 0.9 * count(vit).macs


def test_a_model_without_heads_is_told() -> None:
    with pytest.raises(EngineRefusal, match="No attention heads of model"):
        choose(lenet(), spec("head"))


def test_the_analysis_counts_heads(vit: Any) -> None:
    heads = [layer.heads for layer in analyse(vit).layers if layer.heads]
    assert heads == [4, 4]


def test_the_weakest_head_goes_first() -> None:
    """Head 1 of 3 has the smallest columns in query, key and value."""
    i = keras.Input((5, 6))
    x = layers.Dense(6)(i)
    attention = layers.MultiHeadAttention(3, 2, name="attention")
    model = randomise(keras.Model(i, layers.Dense(2)(attention(x, x))))
    for inner in (attention.query_dense, attention.key_dense, attention.value_dense):
        kernel = np.array(inner.kernel)
        kernel[:, 1] *= 0.01
        inner.kernel.assign(kernel)
    cut = cut_units(model, spec("head", target={"kind": "fraction", "remove": 0.34}))
    assert {name: gone.tolist() for name, gone in cut.removed.items()} == {"attention.heads": [1]}


def test_scores_keep_their_scale_when_dimensions_go() -> None:
    """Keras divides scores by sqrt(key_dim); the query's kernel makes up for the change."""
    i = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 4, value_dim=3, name="attention")
    model = randomise(keras.Model(i, layers.Dense(2)(layers.Dense(6)(attention(i, i)))))
    cut = cut_units(model, spec())
    reduced = apply(model, cut)
    stays = np.setdiff1d(np.arange(4), cut.removed["attention.key_dim"])
    expected = np.array(attention.query_dense.kernel)[:, :, stays] * np.sqrt(2 / 4)
    found = np.array(reduced.get_layer("attention").query_dense.kernel)
    assert np.allclose(found, expected)


def test_isomorphic_groups_compete_among_themselves() -> None:
    """Convolutions whose filters are all small lose none to Dense units of another scale."""
    model = randomise(lenet())
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(layer.kernel * 1e-3)
    alone = spec(scope="global", normalisation="none")
    among = spec(scope="isomorphic", normalisation="none")
    dense = next(x.name for x in model.layers if isinstance(x, layers.Dense))
    # All filters but the last of each layer go first, and one unit with them.
    assert cut_units(model, alone).removed[dense].size == 1
    assert cut_units(model, among).removed[dense].size == 10
