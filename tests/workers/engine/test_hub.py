"""KerasHub's backbones: taken apart they compute the same, and heads and widths inside are cut."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.prune import Prune
from benchmarks.hub import TINY, backbone
from tests.workers.engine.zoo import cut_units, lenet
from workers.engine import analyse, apply, count, inlined, predict, prove, prove_same
from workers.engine.inlining.names import Names, joined, snake

pytest.importorskip("keras_hub", reason="keras-hub is not installed: nothing to take apart")
pytestmark = [
    # KerasHub's layers ask whether they get masks, and TensorFlow sets shapes of what it saves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
]

SIZE = replace(TINY, layers=2, inner=24)
HEADS = {
    "BERT": 8,
    "GPT2": 8,
    "Llama": 2,  # Two query heads go with each head of keys and values.
    "Gemma": 2,
    "Whisper": 12,  # Encoder, decoder, and from one to the other.
    "ViT": 8,
    "MiT": 6,  # Two in the first of two blocks, four in the other.
}
"""Heads that may go, counted from the sizes asked for; benchmarks/coverage.py knows more."""
SHORT = ("Llama", "Gemma", "Whisper")
"""Of one block; the others have two."""
CONVOLUTIONS = ("ResNet", "EfficientNet", "MobileNet")
HALF = {"kind": "fraction", "remove": 0.5}


@pytest.fixture(scope="module", params=[*HEADS, *CONVOLUTIONS])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any, Any]]:
    """A backbone's name, the backbone, and how it comes apart."""
    name = request.param
    model = backbone(name, replace(SIZE, layers=1) if name in SHORT else SIZE)
    yield name, model, inlined(model)
    keras.backend.clear_session()


def hub_layers(model: Any) -> Counter[str]:
    return Counter(
        type(layer).__name__
        for layer in model._flatten_layers()
        if type(layer).__module__.startswith("keras_hub")
    )


def test_it_computes_the_same_of_stock_layers(pair: tuple[str, Any, Any]) -> None:
    name, model, apart = pair
    assert prove_same(model, apart.model, seed=7).relative < 1e-5
    left = {"PositionEmbedding": 1} if name == "Whisper" else {}
    assert hub_layers(apart.model) == left
    assert len(apart.stays) == sum(left.values())


def test_heads_and_widths_inside_blocks_may_go(pair: tuple[str, Any, Any]) -> None:
    name, _, apart = pair
    analysis = analyse(apart.model)
    assert sum(g.units.size for g in analysis.groups if g.heads) == HEADS.get(name, 0)
    # MiT's blocks are four times as wide as their inputs; Gemma halves what is asked for.
    width = {"MiT": 4 * SIZE.width, "Gemma": SIZE.inner // 2}.get(name, SIZE.inner)
    inner = [x for x in analysis.layers if x.prunable == width and "Dense" in x.class_name]
    assert bool(inner) == (name in HEADS)
    assert len(analysis.channel_groups) >= 2


def test_half_of_all_channels_goes(pair: tuple[str, Any, Any], tmp_path: Path) -> None:
    cut_and_reload(pair[2].model, "channel", tmp_path)


@pytest.mark.parametrize("pair", HEADS, indirect=True)
def test_half_of_all_heads_goes(pair: tuple[str, Any, Any], tmp_path: Path) -> None:
    cut_and_reload(pair[2].model, "head", tmp_path)


def cut_and_reload(model: Any, granularity: str, tmp_path: Path) -> None:
    spec = Prune.model_validate({"granularity": granularity, "target": HALF})
    cut = cut_units(model, spec)
    reduced = apply(model, cut)
    assert count(reduced).macs < 0.9 * count(model).macs
    assert predict(model, cut) == count(reduced)
    reduced.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    proof = prove(model, loaded, cut, seed=3)
    assert proof.holds, proof
    assert prove_same(model, loaded, seed=3).relative > 1e-3, "what went made no difference"


# --- what is left alone ------------------------------------------------------------------------
def test_a_model_of_stock_layers_is_left_alone() -> None:
    model = lenet()
    apart = inlined(model)
    assert apart.model is model
    assert apart.notes == ()


def test_the_original_keeps_its_weights_and_graph() -> None:
    model = backbone("BERT", SIZE)
    before = [np.array(v) for v in model.get_weights()]
    calls = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    inlined(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == calls


def test_what_stays_says_why() -> None:
    apart = inlined(backbone("ViTDet", SIZE))
    assert "its weight pos_embed by itself" in apart.stays["add_positional_embedding"]
    assert any("pip install keras-hub" in note for note in apart.notes)


def test_nothing_that_depends_on_samples_is_frozen_into_the_graph() -> None:
    """Lengths other than the probes' give the same too: nothing of a length is a constant."""
    model = backbone("GPT2", SIZE)
    apart = inlined(model).model
    for samples, length in ((1, 5), (7, 40)):
        tokens = np.random.default_rng(0).integers(0, 64, (samples, length))
        given = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
        np.testing.assert_allclose(model(given), apart(given), atol=1e-5)


def test_weights_that_the_graph_would_hold_as_constants_are_noticed() -> None:
    """All weights are shaken before the comparison, so a copied one would tell."""
    model = backbone("ViT", SIZE)
    apart = inlined(model).model
    for each in (model, apart):
        for variable in each.weights:
            variable.assign(np.full(variable.shape, 0.01, "float32"))
    assert prove_same(model, apart).holds


def test_tasks_around_a_backbone_come_apart_too() -> None:
    from keras_hub import models

    task = models.GPT2CausalLM(backbone=backbone("GPT2", SIZE), preprocessor=None)
    apart = inlined(keras.Model(task.input, task.output))
    assert not apart.stays
    assert sum(g.units.size for g in analyse(apart.model).groups if g.heads) == HEADS["GPT2"]


def test_backbones_within_other_models_come_apart_too() -> None:
    inside = backbone("ViT", SIZE)
    image = keras.Input((SIZE.image, SIZE.image, 3))
    x = layers.GlobalAveragePooling1D()(inside(layers.Rescaling(2.0)(image)))
    model = keras.Model(image, layers.Dense(3)(x))
    apart = inlined(model)
    assert not apart.stays
    assert prove_same(model, apart.model).holds
    assert sum(g.units.size for g in analyse(apart.model).groups if g.heads) == HEADS["ViT"]


# --- names -------------------------------------------------------------------------------------
def test_layers_get_the_name_of_the_one_they_come_out_of() -> None:
    names = {layer.name for layer in inlined(backbone("BERT", SIZE)).model.layers}
    assert {
        "token_embedding",
        "transformer_layer_0_self_attention_layer",
        "transformer_layer_1_feedforward_intermediate_dense",
    } <= names


def test_names_are_joined_once_and_told_apart() -> None:
    names = Names()
    assert [names.take("a") for _ in range(3)] == ["a", "a_1", "a_2"]
    assert joined("block", "dense") == "block_dense"
    assert joined("block", "block_dense") == "block_dense"
    assert snake("LayerNormalization") == "layer_normalization"
