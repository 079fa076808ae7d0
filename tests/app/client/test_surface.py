"""Both clients are alike; what they read is there; and nothing of it needs Keras."""

import importlib
import inspect
from typing import Any

import pytest
from matplotlib.figure import Figure

from app.api.artifacts import ArtifactResource
from app.client import SecateurError, asynchronous, outcome, resources, sync
from app.client.outcome import Outcome
from app.client.resources import Seen
from app.domain.metrics import Metrics
from app.services.resources import DatasetResource, JobResource, ModelResource, UploadResource
from app.services.sweeps import ComparedJob, SweepResource
from tests.app.plots.test_job import metrics

CLASSES = ("Secateur", "Models", "Datasets", "Jobs", "Job", "Result", "Sweeps", "Sweep")
BY_AWAIT = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def methods(cls: type) -> dict[str, list[str]]:
    """Public methods of a class with their parameters."""
    return {
        BY_AWAIT.get(name, name): list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") or name in BY_AWAIT or name in BY_AWAIT.values()
    }


@pytest.mark.parametrize("name", CLASSES)
def test_both_clients_are_alike(name: str) -> None:
    assert methods(getattr(sync, name)) == methods(getattr(asynchronous, f"Async{name}"))


@pytest.mark.parametrize(
    ("read", "written"),
    [
        (resources.Model, ModelResource),
        (resources.Dataset, DatasetResource),
        (resources.JobState, JobResource),
        (resources.SweepState, SweepResource),
        (resources.SweepJob, ComparedJob),
        (resources.Artifact, ArtifactResource),
        (resources.UploadState, UploadResource),
    ],
)
def test_what_the_client_reads_is_what_the_service_writes(read: type[Seen], written: Any) -> None:
    assert read.model_fields.keys() <= written.model_fields.keys()


def state(of: Metrics | None) -> resources.JobState:
    return resources.JobState.model_construct(id="job_1", status="queued", metrics=of)


def test_a_result_has_words_and_pictures() -> None:
    result = Outcome(state(metrics()))
    assert result.verdict == metrics().verdict
    figure = result.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) >= 3
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_before_the_end_there_is_no_result() -> None:
    with pytest.raises(SecateurError, match="Wait for it to succeed"):
        Outcome(state(None))


def test_without_keras_a_model_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SecateurError, match="pip install keras"):
        outcome.load(tmp_path / "model.keras")
