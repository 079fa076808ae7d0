"""An accuracy_drop target through a whole job: candidates, the best of them, and the honest end."""

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from app.domain.job import Order
from app.domain.metrics import Metrics, Plan
from tests.workers.orders import make_order
from workers.protocol import Reporter
from workers.pruner import Pruner
from workers.run import run

SPEC: dict[str, Any] = {
    "dataset": "dts_1",
    "fine_tune": {"epochs": 2, "batch_size": 32},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier with far more units than it needs, and its data."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((900, 8)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:500], y[:500], epochs=15, verbose=0)
    model.save(folder / "m.keras")
    arrays = {"train": slice(0, 500), "val": slice(500, 700), "test": slice(700, 900)}
    np.savez(
        folder / "d.npz",
        **{f"x_{name}": x[part] for name, part in arrays.items()},
        **{f"y_{name}": y[part] for name, part in arrays.items()},
    )
    return folder


def order(
    files: Path, folder: Path, prune: dict[str, Any], kind: str = "prune", **spec: Any
) -> Order:
    asked = SPEC | {"prune": prune} | spec
    return make_order(files / "m.keras", folder, asked, kind, files / "d.npz")


def told(pipe: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(each) for each in pipe.getvalue().split("\n")[:-1]]


def drop(points: float, **more: Any) -> dict[str, Any]:
    return {"kind": "accuracy_drop", "max_points": points, "trials": 4} | more


@pytest.mark.parametrize("granularity", ["channel", "weight"])
def test_the_smallest_candidate_that_is_good_enough(
    files: Path, tmp_path: Path, granularity: str
) -> None:
    pipe = io.StringIO()
    prune = {"granularity": granularity, "scope": "global", "target": drop(5.0)}
    result, _ = run(order(files, tmp_path, prune), Reporter(pipe))
    metrics = Metrics.model_validate(result)
    target = metrics.target
    assert target is not None
    assert 1 <= len(target.trials) <= 4
    good = [
        trial
        for trial in target.trials
        if trial.interval and trial.value + (trial.interval[1] - trial.value) * 1.645 / 1.96 <= 5.0
    ]
    assert good
    best = min(good, key=lambda trial: trial.keep)
    if granularity == "channel":
        assert metrics.after.macs == best.macs < 0.5 * metrics.before.macs
    else:
        assert best.parameters < 0.5 * metrics.before.parameters
        assert metrics.pruned.nonzero_parameters == best.parameters
    before = metrics.before.evaluation["accuracy"].value
    after = metrics.after.evaluation["accuracy"].value
    assert before is not None
    assert after is not None
    assert target.achieved == pytest.approx(100 * (before - after), abs=1e-6)
    assert target.interval is not None
    assert target.interval[0] <= target.achieved <= target.interval[1]
    assert "points of accuracy lost on test samples" in metrics.verdict[-1]
    messages = told(pipe)
    assert len([m for m in messages if m.get("kind") == "trial"]) == len(target.trials)
    shares = [m["progress"]["share"] for m in messages if m.get("progress")]
    assert shares == sorted(shares)
    epochs = [m["progress"] for m in messages if (m.get("progress") or {}).get("epoch")]
    assert all(each["epoch"] <= each["epochs"] == 8 for each in epochs if each.get("epochs"))


def test_where_nothing_is_good_enough_the_model_stays(files: Path, tmp_path: Path) -> None:
    """Without training, hardly any of the layers' units may go."""
    prune = {"granularity": "channel", "target": drop(0.0, trials=2)}
    result, _ = run(order(files, tmp_path, prune, fine_tune=None), Reporter(io.StringIO()))
    metrics = Metrics.model_validate(result)
    assert metrics.after.parameters == metrics.before.parameters
    assert metrics.verdict[0].startswith("NOTHING WAS REMOVED: none of 2 candidates")
    assert metrics.target is not None
    assert metrics.target.achieved == 0.0
    assert len(metrics.target.trials) == 2


def test_checkpoints_without_epochs_have_names_of_their_own(files: Path, tmp_path: Path) -> None:
    pipe = io.StringIO()
    prune = {"granularity": "channel", "target": drop(50.0, trials=3)}
    run(order(files, tmp_path, prune, fine_tune=None), Reporter(pipe))
    saved = [m["file"] for m in told(pipe) if m.get("type") == "saved"]
    assert len(saved) == len(set(saved)) == 3


def test_what_no_candidate_can_be_made_of_is_refused(files: Path, tmp_path: Path) -> None:
    prune = {"target": drop(5.0), "layers": [{"match": "*", "skip": True}]}
    with pytest.raises(EngineRefusal, match="can be removed"):
        run(order(files, tmp_path, prune), Reporter(io.StringIO()))


class Killed(BaseException):
    """Stands for kill -9."""


def test_finished_candidates_outlive_the_attempt(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune = {"granularity": "channel", "target": drop(5.0, trials=3)}
    whole, _ = run(order(files, tmp_path, prune), Reporter(io.StringIO()))
    folder = tmp_path / "again"
    folder.mkdir()
    pipe, begun = io.StringIO(), []
    through = Pruner.cut_and_train

    def die_in_the_third(self: Pruner, state: Any) -> None:
        begun.append(state)
        if len(begun) == 3:
            raise Killed
        through(self, state)

    monkeypatch.setattr(Pruner, "cut_and_train", die_in_the_third)
    with pytest.raises(Killed):
        run(order(files, folder, prune), Reporter(pipe))
    saved = [m["file"] for m in told(pipe) if m.get("type") == "saved" or "file" in m]
    monkeypatch.setattr(Pruner, "cut_and_train", through)
    checkpoint = folder / "scratch" / saved[-1]
    later = order(files, folder, prune).model_copy(update={"checkpoint_path": str(checkpoint)})
    pipe = io.StringIO()
    resumed, _ = run(later, Reporter(pipe))
    assert len([m for m in told(pipe) if m.get("kind") == "trial"]) == 1
    before, after = (Metrics.model_validate(each) for each in (whole, resumed))
    assert before.target is not None
    assert after.target is not None
    assert [t.value for t in after.target.trials] == [t.value for t in before.target.trials]
    assert after.target.achieved == before.target.achieved
    assert after.after.macs == before.after.macs


def test_a_dry_run_says_that_it_cannot_foresee(files: Path, tmp_path: Path) -> None:
    prune = {"granularity": "channel", "target": drop(1.0)}
    result, _ = run(order(files, tmp_path, prune, kind="plan"), Reporter(io.StringIO()))
    plan = Plan.model_validate(result)
    assert plan.after == plan.before
    assert any("pruning and training candidates" in note for note in plan.notes)


def test_quantised_files_have_metrics_of_their_own(files: Path, tmp_path: Path) -> None:
    exports = ["litert_float16", "litert_dynamic_int8", "litert_int8", "onnx_int8"]
    prune = {"granularity": "channel", "target": {"kind": "fraction", "remove": 0.5}}
    asked = [*exports, "sparse_npz", "saved_model"]
    result, names = run(order(files, tmp_path, prune, exports=asked), Reporter(io.StringIO()))
    metrics = Metrics.model_validate(result)
    assert list(metrics.after.exported) == exports
    assert list(metrics.files) == ["keras", *asked]
    assert {one.name for one in metrics.files.values()} < set(names)
    for export, one in metrics.files.items():
        if export != "sparse_npz":
            assert one.samples == 200
            assert one.inputs[0].shape == (None, 8)
            assert one.difference is not None
            assert (one.difference > 1e-5) == (export in exports)
    for export, found in metrics.after.exported.items():
        assert found["accuracy"].samples == 200
        assert found["accuracy"].value == pytest.approx(
            metrics.after.evaluation["accuracy"].value, abs=0.06
        )
        assert metrics.after.bytes[export] < metrics.before.bytes[export]
    (quality,) = [each for each in metrics.verdict if each.startswith("On held-out data")]
    assert "as litert_int8, accuracy" in quality
    assert "of the litert_int8 file" in (tmp_path / "out" / "report.html").read_text()
