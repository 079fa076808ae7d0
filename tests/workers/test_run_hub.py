"""A model of KerasHub through a job, a dry run and an analysis."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.analysis import ModelAnalysis
from app.domain.job import Order
from app.domain.metrics import Metrics, Plan
from benchmarks.hub import TINY, backbone
from tests.workers.orders import make_order
from workers.analysis import analysis
from workers.plan import plan
from workers.protocol import Reporter
from workers.run import run

pytest.importorskip("keras_hub", reason="keras-hub is not installed: no model of it loads")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

INSIDE = "transformer_layer_0_feedforward_intermediate_dense"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One backbone that comes apart, and one whose attention does not."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("BERT", "BLOOM"):
        backbone(name, TINY).save(folder / f"{name}.keras")
    return folder


def order(files: Path, folder: Path, name: str, kind: str) -> Order:
    prune = {"target": {"kind": "fraction", "remove": 0.5}}
    spec = {"fine_tune": None, "prune": prune}
    return make_order(files / f"{name}.keras", folder, spec, kind)


def test_a_job_cuts_inside_blocks_and_hands_out_stock_layers(files: Path, tmp_path: Path) -> None:
    found, _ = run(order(files, tmp_path, "BERT", "prune"), Reporter(io.StringIO()))
    metrics = Metrics.model_validate(found)
    assert metrics.equality is not None
    assert metrics.equality.holds
    assert metrics.after.macs < metrics.before.macs
    assert any("loads without KerasHub" in note for note in metrics.notes)
    final = keras.models.load_model(tmp_path / "out" / "model.keras", compile=False)
    assert final.get_layer(INSIDE).units == TINY.inner // 2
    assert {type(layer).__module__.split(".")[0] for layer in final.layers} == {"keras"}
    original = keras.models.load_model(files / "BERT.keras", compile=False)
    tokens = np.ones((2, 8), "int32")
    given = dict.fromkeys(("token_ids", "segment_ids", "padding_mask"), tokens)
    assert final(given).keys() == original(given).keys()


def test_a_dry_run_foresees_what_goes_inside(files: Path, tmp_path: Path) -> None:
    found: Plan = plan(order(files, tmp_path, "BERT", "plan"))
    (layer,) = [one for one in found.layers if one.name == INSIDE]
    assert layer.removed == TINY.inner // 2


def test_an_analysis_says_what_stays_and_why(files: Path, tmp_path: Path) -> None:
    found, _ = analysis(order(files, tmp_path, "BLOOM", "analysis"))
    assert isinstance(found, ModelAnalysis)
    by_name: dict[str, Any] = {layer.name: layer for layer in found.layers}
    assert "BloomAttention of KerasHub" in by_name["transformer_layer_0_self_attention"].frozen
    assert by_name["transformer_layer_0_mlp_intermediate_dense"].prunable == TINY.inner
    assert any("pip install keras-hub" in note for note in found.notes)
