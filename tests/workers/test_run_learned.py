"""Jobs whose zeros are learned: the original stays, teaches, and resuming changes nothing."""

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.job import Order
from app.domain.metrics import Metrics
from tests.workers.orders import make_order
from workers.protocol import Reporter
from workers.run import run
from workers.training.teaching import Teacher

PRUNE = {
    "granularity": "weight",
    "scope": "global",
    "criterion": {"kind": "variational_dropout", "epochs": 3, "warmup_epochs": 1},
    "target": {"kind": "fraction", "remove": 0.8},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    hidden = keras.layers.Dense(24, activation="relu", name="hidden")
    out = keras.layers.Dense(3, activation="softmax", name="out")
    keras.Sequential([keras.Input((8,), name="x"), hidden, out]).save(folder / "m.keras")
    np.savez(folder / "d.npz", x=x, y=x[:, :3].argmax(axis=1))
    return folder


def order(files: Path, folder: Path) -> Order:
    spec = {
        "dataset": "dts_1",
        "prune": PRUNE,
        "schedule": {"kind": "iterative", "steps": 2, "epochs_per_step": 1},
        "fine_tune": {
            "epochs": 2,
            "batch_size": 32,
            "distillation": {},
            "early_stopping": None,
            "optimizer": {"kind": "adam", "learning_rate": 0.01},
        },
    }
    return make_order(files / "m.keras", folder, spec, data=files / "d.npz")


class Killed(BaseException):
    """Stands for kill -9."""


class Dying(Reporter):
    """Ends the process after an epoch's checkpoint."""

    def __init__(self, pipe: Any, epoch: int) -> None:
        super().__init__(pipe)
        self._epoch = epoch

    def send(self, message: Any) -> None:
        super().send(message)
        if getattr(message, "epoch", None) == self._epoch and hasattr(message, "file"):
            raise Killed


def weights(folder: Path) -> list[Any]:
    return keras.models.load_model(folder / "out" / "model.keras").get_weights()


def test_the_original_teaches(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Any] = []
    through = Teacher.outputs

    def watched(self: Teacher, *asked: Any) -> Any:
        taught.extend(np.array(one) for one in self.model.get_weights())
        return through(self, *asked)

    monkeypatch.setattr(Teacher, "outputs", watched)
    result, _ = run(order(files, tmp_path), Reporter(io.StringIO()))
    metrics = Metrics.model_validate(result)
    assert [(one.epoch, one.step) for one in metrics.history] == [
        *((1, 0), (2, 0), (3, 0), (4, 1)),
        *((5, 2), (6, 2)),
    ]
    assert metrics.target is not None
    assert metrics.target.within
    uploaded = keras.models.load_model(files / "m.keras").get_weights()
    for a, b in zip(taught, uploaded, strict=False):
        np.testing.assert_array_equal(a, b)
    assert taught


@pytest.fixture(scope="module")
def undisturbed(files: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(order(files, folder), Reporter(io.StringIO()))
    return weights(folder)


# Between the phases. Within them: test_variational.py and test_recovery.py.
@pytest.mark.parametrize("epoch", [*(pytest.param(n, marks=pytest.mark.slow) for n in (2, 5)), 4])
def test_a_later_attempt_ends_the_same(
    files: Path, undisturbed: list[Any], tmp_path: Path, epoch: int
) -> None:
    (again := tmp_path / "again").mkdir()
    pipe = io.StringIO()
    with pytest.raises(Killed):
        run(order(files, again), Dying(pipe, epoch))
    told = [json.loads(each) for each in pipe.getvalue().split("\n")[:-1]]
    saved = [message["file"] for message in told if "file" in message][-1]
    later = order(files, again).model_copy(
        update={"checkpoint_path": str(again / "scratch" / saved)}
    )
    run(later, Reporter(io.StringIO()))
    for a, b in zip(undisturbed, weights(again), strict=True):
        np.testing.assert_array_equal(a, b)
