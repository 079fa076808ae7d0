"""Criteria that look at data, in a job and in a dry run: digits, carried out in this process."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.dataset import DatasetOptions
from app.domain.errors import EngineRefusal
from app.domain.job import Order
from app.intake.datasets import inspect_dataset
from app.intake.models import inspect_model
from app.services.examples import DATASET_FILE, MODEL_FILE
from workers.plan import plan
from workers.protocol import Reporter
from workers.run import run


def order(folder: Path, job: str, data: bool = True, **criterion: Any) -> Order:
    folder.joinpath("out").mkdir()
    options = DatasetOptions(scale=1 / 16)
    prune = {
        "granularity": "weight",
        "criterion": criterion,
        "target": {"kind": "fraction", "remove": 0.6},
    }
    return Order.model_validate(
        {
            "job": "job_1",
            "kind": job,
            "attempt": 1,
            "spec": {
                "model": "mdl_1",
                "dataset": "dts_1",
                "prune": prune,
                "schedule": {"kind": "iterative", "steps": 2},
                "fine_tune": {"epochs": 1},
                "evaluate": {"latency": None},
            },
            "model": inspect_model(MODEL_FILE, MODEL_FILE.name),
            "model_path": str(MODEL_FILE),
            "dataset": inspect_dataset(DATASET_FILE, DATASET_FILE.name, options),
            "dataset_path": str(DATASET_FILE) if data else None,
            "out": str(folder / "out"),
            "scratch": str(folder),
        }
    )


def test_a_job_looks_at_data_before_each_cut(tmp_path: Path) -> None:
    told = io.StringIO()
    metrics, _ = run(order(tmp_path, "prune", kind="taylor", samples=64), Reporter(told))
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    phases = [line["data"]["phase"] for line in lines if line.get("kind") == "phase"]
    cuts = [i for i, phase in enumerate(phases) if phase == "pruning"]
    assert len(cuts) == 2
    assert [phases[i - 1] for i in cuts] == ["calibrating"] * 2
    assert metrics["phases_seconds"]["calibrating"] > 0
    gone = metrics["before"]["nonzero_parameters"] - metrics["after"]["nonzero_parameters"]
    assert gone == sum(round(0.6 * size) for size in (64 * 128, 128 * 64, 64 * 10))


def test_a_dry_run_takes_a_glance(tmp_path: Path) -> None:
    found = plan(order(tmp_path, "plan", kind="wanda"))
    assert found.after.nonzero_parameters < 0.5 * found.before.nonzero_parameters
    assert any("up to 256 samples" in note for note in found.notes)


def test_a_dry_run_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal, match="looks at data"):
        plan(order(tmp_path, "plan", data=False, kind="fisher"))
