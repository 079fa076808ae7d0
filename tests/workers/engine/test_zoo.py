"""Every small model: cut, predict, prove, save, load, and leave the original alone."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.prune import Prune
from tests.workers.engine.zoo import ZOO, randomise
from tests.workers.engine.zoo_blocks import BLOCKS
from workers.engine import apply, choose, count, predict, prove
from workers.engine.equality import probe_inputs

LAYERWISE = [{"target": {"kind": "fraction", "remove": k}} for k in (0.3, 0.5, 0.9)]
OTHERS = [
    {"target": {"kind": "fraction", "remove": 0.5}, "scope": "global", "criterion": "l1"},
    {"target": {"kind": "parameters", "keep": 0.75}, "round_to": 2},
    {"target": {"kind": "macs", "keep": 0.96}, "scope": "global", "criterion": "random"},
    {"target": {"kind": "fraction", "remove": 0.6}, "granularity": "weight"},
]


SPECS = LAYERWISE + OTHERS
MODELS = {**ZOO, **BLOCKS}
# `make test` takes every model with half of its units gone and with two other specs, in turn.
CASES = [
    pytest.param(name, spec, id=f"{name}-{spec}", marks=[] if quick else pytest.mark.slow)
    for row, name in enumerate(MODELS)
    for column, spec in enumerate(SPECS)
    for quick in [spec is LAYERWISE[1] or (column - 2 * row) % len(SPECS) < 2]
]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return randomise(MODELS[request.param]())


@pytest.mark.parametrize(("model", "spec"), CASES, indirect=["model"])
def test_cut_is_predicted_and_proven(model: Any, spec: dict[str, Any]) -> None:
    before = [np.array(v) for v in model.get_weights()]
    cut = choose(model, Prune.model_validate(spec), seed=3)
    reduced = apply(model, cut)
    equality = prove(model, reduced, cut, seed=1)
    assert sum(row.removed for row in cut.summary) > 0
    assert equality.holds, equality
    assert predict(model, cut) == count(reduced)
    assert count(reduced).nonzero_parameters < count(model).nonzero_parameters
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_reduced_model_survives_a_file(model: Any, tmp_path: Path) -> None:
    cut = choose(model, Prune.model_validate(LAYERWISE[1]))
    reduced = apply(model, cut)
    reduced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert prove(model, loaded, cut, seed=2).holds
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert count(loaded) == count(reduced)
    assert {type(layer) for layer in loaded.layers} <= {type(layer) for layer in model.layers}
    assert _names(loaded) == _names(model)


def _names(model: Any) -> tuple[list[str], list[str]]:
    inputs = [tensor._keras_history[0].name for tensor in model.inputs]
    return inputs, list(getattr(model, "output_names", []))


def test_probes_tell_models_apart(model: Any) -> None:
    """A proof on outputs that never change would prove nothing."""
    probes = probe_inputs(model, 0)
    fed = keras.tree.pack_sequence_as(getattr(model, "_inputs_struct", probes[0]), probes)
    for output in keras.tree.flatten(model(fed, training=False)):
        assert float(np.ptp(keras.ops.convert_to_numpy(output), axis=0).max()) > 1e-3
