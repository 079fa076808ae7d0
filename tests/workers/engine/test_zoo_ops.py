"""Every small model of operations: cut, predict, prove, save and load."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, randomise
from tests.workers.engine.zoo_ops import HEADS, ZOO
from workers.engine import apply, choose, count, predict, prove
from workers.engine.equality import probe_inputs

HALF = {"target": {"kind": "fraction", "remove": 0.5}}
SPECS = [{"target": {"kind": "fraction", "remove": k}} for k in (0.3, 0.9)]


@pytest.fixture(scope="module", params=list(ZOO))
def model(request: pytest.FixtureRequest) -> Any:
    return randomise(ZOO[request.param]())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_cut_is_predicted_and_proven(model: Any, spec: dict[str, Any]) -> None:
    cut = choose(model, Prune.model_validate(spec), seed=3)
    reduced = apply(model, cut)
    assert sum(row.removed for row in cut.summary) > 0
    assert prove(model, reduced, cut, seed=1).holds
    assert predict(model, cut) == count(reduced)


def test_reduced_model_survives_a_file(model: Any, tmp_path: Path) -> None:
    cut = choose(model, Prune.model_validate(HALF))
    reduced = apply(model, cut)
    reduced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert prove(model, loaded, cut, seed=2).holds
    assert predict(model, cut) == count(loaded)


def test_probes_tell_models_apart(model: Any) -> None:
    """A proof on outputs that never change would prove nothing."""
    (probe,) = probe_inputs(model, 0)
    for output in keras.tree.flatten(model(probe, training=False)):
        assert float(np.ptp(keras.ops.convert_to_numpy(output), axis=0).max()) > 1e-3


@pytest.mark.parametrize("name", HEADS)
def test_heads_go_as_a_whole(name: str) -> None:
    model = randomise(ZOO[name]())
    cut = cut_units(model, Prune.model_validate({**HALF, "granularity": "head"}))
    reduced = apply(model, cut)
    assert cut.removed
    assert prove(model, reduced, cut).holds
    assert predict(model, cut) == count(reduced)
