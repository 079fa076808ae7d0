"""Bytes and latency targets through a whole job and through a dry run."""

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.job import Order
from app.domain.metrics import Metrics, Plan
from app.domain.spec import PruningSpec
from tests.workers.orders import make_order
from workers import engine
from workers.measure import compare
from workers.protocol import Reporter
from workers.run import run
from workers.search.resolve import Bench, Resolved
from workers.search.tally import Tally
from workers.training.state import JobState, restore, save

UNITS = (24, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier and data for it."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(units, activation="relu") for units in UNITS]
    model = keras.Sequential(
        [keras.Input((8,)), *dense, keras.layers.Dense(3, activation="softmax")]
    )
    model.save(folder / "m.keras")
    x = np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    np.savez(folder / "d.npz", x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return folder


def order(files: Path, folder: Path, spec: dict[str, Any], kind: str = "prune") -> Order:
    data = files / "d.npz" if "dataset" in spec else None
    return make_order(files / "m.keras", folder, {"fine_tune": None, **spec}, kind, data)


def job(files: Path, folder: Path, spec: dict[str, Any]) -> tuple[Metrics, list[dict[str, Any]]]:
    """The job's figures and all that it told."""
    pipe = io.StringIO()
    result, _ = run(order(files, folder, spec), Reporter(pipe))
    return Metrics.model_validate(result), [
        json.loads(each) for each in pipe.getvalue().split("\n")[:-1]
    ]


def target(**fields: Any) -> dict[str, Any]:
    return {"scope": "global", "target": fields}


@pytest.mark.parametrize("export", ["keras", "litert"])
def test_a_file_ends_below_its_size_after_cuts_in_steps(
    files: Path, tmp_path: Path, export: str
) -> None:
    """The file that is handed out, compiled and trained, is what the limit is about."""
    limit = {"keras": 23_000, "litert": 4_000}[export]
    metrics, told = job(
        files,
        tmp_path,
        {
            "dataset": "dts_1",
            "prune": target(kind="bytes", export=export, max=limit),
            "schedule": {"kind": "iterative", "steps": 2},
            "fine_tune": {"epochs": 1},
            "exports": ["keras", "litert"],
        },
    )
    name = {"keras": "model.keras", "litert": "model.tflite"}[export]
    assert metrics.target is not None
    assert (tmp_path / "out" / name).stat().st_size == metrics.target.achieved
    assert 0.95 * limit < metrics.target.achieved <= limit
    assert metrics.target.met
    assert metrics.phases_seconds["search"] > 0
    trials = [message["data"] for message in told if message.get("kind") == "trial"]
    assert len(trials) == len(metrics.target.trials) > 2
    shares = [m["progress"]["share"] for m in told if m.get("progress")]
    assert shares == sorted(shares)


def test_a_file_that_fits_is_handed_back_as_it_is(files: Path, tmp_path: Path) -> None:
    metrics, _ = job(files, tmp_path, {"prune": target(kind="bytes", max=10**6)})
    assert metrics.after.parameters == metrics.before.parameters
    assert metrics.target is not None
    assert metrics.target.met
    assert metrics.verdict[0].startswith("NOTHING WAS REMOVED: the target is met as it is")
    assert "already fits" in (tmp_path / "out" / "report.html").read_text()


def test_a_latency_is_measured_once_more_at_the_end(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def clock(pair: compare.Pair, *asked: Any, threads: int = 1) -> Any:
        calls.append(asked)
        macs = [engine.count(model).macs for model in (pair.before, pair.after)]
        return tuple(np.full(9, 1e-4 + 1e-6 * each) for each in macs)

    monkeypatch.setattr("workers.measure.compare.time_pair", clock)
    monkeypatch.setattr("workers.run.Bench", lambda *asked: _bench(*asked, clock))
    asked = target(kind="latency", runtime="keras", batch_size=7, keep=0.6)
    metrics, _ = job(files, tmp_path, {"prune": asked})
    assert metrics.target is not None
    assert metrics.target.met
    assert metrics.target.achieved == pytest.approx(0.6, rel=0.05)
    (row,) = metrics.after.latency
    assert (row.runtime, row.batch_size) == ("keras", 7)
    assert len(calls) == len(metrics.target.trials)  # All but the original, and the last.


def _bench(*asked: Any) -> Any:
    return Bench(*asked[:-1], time_pair=asked[-1])


PARAMETERS = {"kind": "parameters", "keep": 0.4}


@pytest.mark.parametrize(
    ("asked", "figure"),
    [
        ({"target": {"kind": "fraction", "remove": 0.5}}, (0.5, 20 / 40)),
        (
            {"granularity": "weight", "target": PARAMETERS, "shrink": False},
            (0.4, 0.4),
        ),
    ],
)
def test_other_targets_are_told_too(
    files: Path, tmp_path: Path, asked: Any, figure: tuple[float, float]
) -> None:
    metrics, _ = job(files, tmp_path, {"prune": asked})
    assert metrics.target is not None
    assert (metrics.target.asked, metrics.target.achieved) == pytest.approx(figure, rel=0.01)
    assert metrics.target.within
    assert metrics.target.trials == ()
    assert "search" not in metrics.phases_seconds


def test_a_dry_run_searches_for_bytes(files: Path, tmp_path: Path) -> None:
    spec = {"prune": target(kind="bytes", max=20_500)}
    result, _ = run(order(files, tmp_path, spec, "plan"), Reporter(io.StringIO()))
    plan = Plan.model_validate(result)
    assert plan.target is not None
    assert plan.target.met
    assert 0.95 * 20_500 < plan.target.achieved <= 20_500
    assert plan.after.parameters < plan.before.parameters
    assert any(note.startswith("The target's cut was measured") for note in plan.notes)


def test_a_resumed_attempt_knows_what_the_search_found(tmp_path: Path, files: Path) -> None:
    model = keras.models.load_model(files / "m.keras")
    spec = PruningSpec.model_validate(
        {"model": "mdl_1", "prune": {"target": {"kind": "parameters", "keep": 0.5}}}
    )
    resolved = Resolved(prune=spec.prune, value=123.0, note="why")
    tally = Tally(total=40, removed=7, wanted=9)
    state = JobState(model, engine.begin(model), resolved=resolved, tally=tally)
    save(state, tmp_path / "c.zip")
    back = restore(tmp_path / "c.zip", tmp_path)
    assert (back.resolved, back.tally) == (resolved, tally)


def test_weights_of_dead_units_go_beyond_the_target_and_it_is_said(
    files: Path, tmp_path: Path
) -> None:
    asked = {"prune": {"granularity": "weight", "target": PARAMETERS}}
    figure = job(files, tmp_path, asked)[0].target
    assert figure is not None
    assert figure.met
    assert figure.achieved < 0.39
    assert "shrink: false keeps them" in str(figure.note)
