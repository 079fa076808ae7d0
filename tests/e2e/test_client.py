"""The notebook and the commands as people use them, against a real service with workers."""

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import keras
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from app.client import Secateur
from tests.e2e.service import SECATEUR, Service

NOTEBOOK = Path(__file__).parents[2] / "examples" / "prune.ipynb"
TINY = {
    "fine_tune": {"epochs": 1},
    "evaluate": {"latency": None},
    "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
}


@pytest.fixture(scope="module")
def cells(service: Service) -> list[Any]:
    """The notebook's cells, executed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECATEUR_URL", service.url)
        environment.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return list(notebook.cells)


def shown(cells: list[Any], source: str) -> list[dict[str, Any]]:
    """Outputs of the cell that has this in its source."""
    (cell,) = (cell for cell in cells if cell.cell_type == "code" and source in cell.source)
    return list(cell.outputs)


def test_the_notebook_runs(cells: list[Any]) -> None:
    (bar,) = (each for each in shown(cells, "job.wait()") if "text/html" in each.get("data", {}))
    assert '<progress value="1.000">' in bar["data"]["text/html"]
    assert "17,226 parameters would become 6,570" in shown(cells, "secateur.validate")[0]["text"]
    assert "On held-out data: accuracy" in shown(cells, "result.verdict")[0]["text"]
    assert "image/png" in shown(cells, "result.plot()")[0]["data"]
    assert "6,570" in json.dumps(shown(cells, "pruned.summary()"))
    assert "guessed" in "".join(each.get("text", "") for each in shown(cells, "guesses ="))


def test_one_line_prunes_and_its_answer_is_json(
    service: Service, files: Path, tmp_path: Path
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(TINY))
    done = subprocess.run(
        [
            *(SECATEUR, "prune", files / "mlp.keras", "--data", files / "data.npz"),
            *("--spec", tmp_path / "spec.json", "--export", "litert", "--fail-drop", "100"),
            *("--json", "-o", tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"SECATEUR_URL": service.url},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["goal_reached"]
    assert {Path(name).name for name in said["files"]} >= {"model.keras", "model.tflite"}
    assert "━" not in done.stderr, "no bars where there is no terminal"
    model = keras.models.load_model(tmp_path / "out" / "model.keras")
    assert model.count_params() == said["job"]["metrics"]["after"]["parameters"]


def test_a_result_is_a_keras_model(
    service: Service, uploaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with Secateur(service.url) as client:
        spec = TINY | {"model": uploaded["mlp"], "dataset": uploaded["data"]}
        job = client.jobs.submit(spec)
        result = job.wait()
        model = result.model()
        kinds = [event.kind for event in job.events()]
        lines = list(job.logs())
    assert model.count_params() == result.metrics.after.parameters
    assert model.predict(np.zeros((1, 64)), verbose=0).shape == (1, 4)
    assert kinds[0] == "queued"
    assert kinds[-1] == "succeeded"
    assert len(kinds) == len(lines)
    assert terminal.getvalue() == "", "a bar is drawn on terminals alone"
