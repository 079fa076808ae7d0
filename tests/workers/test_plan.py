"""The dry run of masks: counts of weights, notes of what is left, and no promise of speed."""

from pathlib import Path
from typing import Any

import pytest

from app.domain.job import Order
from app.domain.spec import PruningSpec
from app.intake.models import inspect_model
from tests.workers.engine.zoo import depthwise, randomise
from workers.plan import plan

HALF = {"kind": "fraction", "remove": 0.5}


def order(prune: dict[str, Any], folder: Path) -> Order:
    path = folder / "model.keras"
    randomise(depthwise()).save(path)
    return Order(
        job="pln_1",
        kind="plan",
        attempt=1,
        spec=PruningSpec.model_validate({"model": "mdl_1", "prune": prune}),
        model=inspect_model(path, "model.keras"),
        model_path=str(path),
        out=str(folder),
        scratch=str(folder),
    )


@pytest.mark.parametrize(
    ("prune", "removed"),
    [
        # 3x3 windows on 3 inputs, of which ceil(3 / 2) stay, to 8 outputs.
        ({"granularity": "n_m"}, 9 * 1 * 8),
        # Of blocks of 4x4, 1 x 2 in each window position, the half: 9 blocks of 3x4.
        ({"granularity": "block", "target": HALF}, 9 * 12),
    ],
    ids=["n_m", "block"],
)
def test_masks_are_planned_in_weights(prune: dict[str, Any], removed: int, tmp_path: Path) -> None:
    found = plan(order(prune, tmp_path))
    kind = prune["granularity"]
    assert found.granularity == kind
    by_class = {layer.class_name: layer for layer in found.layers}
    first = next(layer for layer in found.layers if layer.class_name == "Conv2D")
    assert (first.removed, first.note) == (removed, None)
    assert first.parameters_before == first.parameters_after
    assert by_class["DepthwiseConv2D"].removed == 0
    assert "one channel only" in (by_class["DepthwiseConv2D"].note or "")
    assert found.before.macs == found.after.macs
    gone = sum(layer.removed for layer in found.layers)
    assert found.after.nonzero_parameters == found.before.nonzero_parameters - gone
    assert "Zero weights keep their place in dense kernels" in found.notes[0]
    assert "layers may become smaller than foreseen here" in found.notes[1]


def test_without_shrink_all_shapes_stay(tmp_path: Path) -> None:
    prune = {"granularity": "weight", "target": HALF, "shrink": False}
    assert not any("smaller than foreseen" in note for note in plan(order(prune, tmp_path)).notes)
