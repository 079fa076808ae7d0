"""Shares by what layers bear: what costs nothing goes first, and the target is just reached."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from app.domain.metrics import Metrics, Plan
from app.domain.prune import Prune
from tests.workers.orders import make_order
from tests.workers.search.test_sensitivity import CLASSES, DATA, model
from workers import engine
from workers.plan import BY_SENSITIVITY
from workers.protocol import Reporter
from workers.run import run
from workers.search.allocation import allocate, allocated


def shares(prune: dict[str, Any]) -> tuple[Prune, dict[str, float]]:
    asked = Prune.model_validate({"scope": "sensitivity"} | prune)
    return asked, dict(allocate(model(), asked, DATA, CLASSES, 0)(asked))


@pytest.mark.parametrize("keep", [0.4, 0.6, 0.8])
def test_what_is_idle_goes_first_and_the_target_is_just_reached(keep: float) -> None:
    target = {"kind": "macs", "keep": keep}
    asked, found = shares({"granularity": "channel", "target": target})
    assert found["needed"] == found["idle"]  # They lose units together.
    cut = engine.choose(model(), allocated(asked, found))
    left = engine.predict(model(), cut).macs / engine.count(model()).macs
    assert left <= keep
    assert left > keep - 0.12  # One unit of few.
    # Half of both is idle; the loss rises only beyond.
    if keep == 0.4:
        assert all(0.4 < share < 0.7 for share in found.values())


def test_layers_that_bear_nothing_keep_more() -> None:
    whole = model()
    wide = whole.get_layer("wide")
    wide.set_weights([np.array(value) for value in wide.get_weights()])
    # Now every unit of `wide` carries something, and half of `idle` and `needed` still nothing.
    kernel = np.zeros((8, 16), np.float32)
    kernel[:4] = np.tile(np.eye(4, dtype=np.float32), 4)
    wide.set_weights([kernel, np.zeros(16)])
    whole.get_layer("out").set_weights([np.tile(np.eye(4, dtype=np.float32), (4, 1)), np.zeros(4)])
    target = {"kind": "fraction", "remove": 0.3}
    asked = Prune.model_validate(
        {"scope": "sensitivity", "granularity": "channel", "target": target}
    )
    found = allocate(whole, asked, DATA, CLASSES, 0)(asked)
    assert found["wide"] < 0.5 * found["idle"]


def test_what_the_spec_says_of_layers_goes_before() -> None:
    layers = [{"match": "wide", "max_remove": 0.25}, {"match": "idle", "skip": True}]
    asked, found = shares(
        {
            "granularity": "channel",
            "target": {"kind": "fraction", "remove": 0.15},
            "layers": layers,
        }
    )
    assert set(found) == {"wide"}
    cut = engine.choose(model(), allocated(asked, found))
    removed = {row.name: row.removed for row in cut.summary}
    assert 0 < removed["wide"] <= 4
    assert removed["needed"] == removed["idle"] == 0


def test_out_of_reach_is_said() -> None:
    with pytest.raises(EngineRefusal, match="the target is not reached"):
        shares({"granularity": "channel", "target": {"kind": "macs", "keep": 0.01}})


@pytest.mark.parametrize(
    "prune",
    [
        {"granularity": "channel", "target": {"kind": "macs", "keep": 0.6}},
        {"granularity": "weight", "target": {"kind": "fraction", "remove": 0.6}, "shrink": False},
        {
            "granularity": "channel",
            "target": {"kind": "accuracy_drop", "max_points": 40, "trials": 2},
        },
    ],
    ids=["macs", "weights", "accuracy_drop"],
)
def test_jobs(tmp_path: Path, prune: dict[str, Any]) -> None:
    model().save(tmp_path / "m.keras")
    x = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=x.argmax(axis=1))
    spec = {
        "dataset": "dts_1",
        "prune": prune | {"scope": "sensitivity"},
        "schedule": {"kind": "iterative", "steps": 2},
        "fine_tune": {"epochs": 1},
    }
    asked = make_order(tmp_path / "m.keras", tmp_path, spec, data=tmp_path / "d.npz")
    result, _ = run(asked, Reporter(io.StringIO()))
    metrics = Metrics.model_validate(result)
    assert metrics.target is not None
    assert metrics.target.met, metrics.target
    assert metrics.after.macs < metrics.before.macs or prune["granularity"] == "weight"
    order = make_order(tmp_path / "m.keras", tmp_path, spec, "plan", tmp_path / "d.npz")
    foreseen, _ = run(order, Reporter(io.StringIO()))
    assert BY_SENSITIVITY in Plan.model_validate(foreseen).notes
