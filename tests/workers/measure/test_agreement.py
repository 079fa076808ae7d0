"""A file that computes something else is caught."""

from pathlib import Path

import keras
import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from workers.exports.formats import write
from workers.measure.agreement import disagreement, ensure_agreement

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("expected", "received", "share"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([NAN, 2.0], [NAN, 1.0], 0.5),
        ([NAN, 2.0], [0.0, 2.0], INF),
        ([1.0, 2.0], [NAN, 2.0], INF),
        ([INF, 2.0], [INF, 2.0], 0.0),
        ([INF, 2.0], [-INF, 2.0], INF),
        ([1.0, 2.0], [[1.0, 2.0]], INF),
        ([], [], 0.0),
    ],
)
def test_disagreement_is_a_share_of_the_largest_output(
    expected: list[float], received: list[float], share: float
) -> None:
    assert disagreement(np.array(expected), np.array(received)) == share


def tiny() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="last")])


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    model = tiny()
    file = write(model, "onnx", tmp_path)
    ensure_agreement(model, file, seed=0)
    kernel, _ = model.weights
    kernel.assign(kernel * 1.001)
    with pytest.raises(EngineRefusal, match=r"output 'last' differs .* by 1\.0e-03") as refused:
        ensure_agreement(model, file, seed=0)
    assert refused.value.field == "exports"


def test_a_file_that_does_not_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(EngineRefusal, match="ONNX Runtime cannot run the file"):
        ensure_agreement(tiny(), file, seed=0)
