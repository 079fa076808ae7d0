"""GET /v1/models/{id}/analysis: JSON for programs, a page for browsers, kept with an ETag."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters.database import JobRow
from app.adapters.queue import CeleryQueue
from app.domain.errors import ChildCrashed, EngineRefusal, SecateurError
from app.domain.job import ArtifactFile, Status
from app.services import lifecycle
from tests.app.api.conftest import Api, check_problem

URL = "/v1/models/mdl_example/analysis"
RESULT: dict[str, Any] = {
    "model": "mdl_example",
    "engine": version("secateur"),
    "parameters": 10,
    "macs": 8,
    "seconds": 0.1,
    "layers": [
        {
            "name": "digit",
            "class": "Dense",
            "output_shape": [None, 2],
            "units": 2,
            "prunable": 0,
            "coupled_with": [],
            "parameters": 10,
            "macs": 8,
            "frozen": "the model's output",
            "heads": None,
        }
    ],
    "edges": [["pixels", "digit"]],
    "notes": [],
}
PAGE = b"<!doctype html><title>an analysis</title>"


def waiting(api: Api) -> str:
    """The analysis that waits for a worker."""
    query = select(JobRow.id).where(JobRow.kind == "analysis", JobRow.state == "queued")
    with api.context.database.read() as session:
        return session.scalars(query).one()


@pytest.fixture
def worker(any_api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Answers at once; the jobs that it did."""
    done: list[str] = []

    def work(_: object, queue: str) -> None:
        assert queue == "quick"
        job, context = waiting(any_api), any_api.context
        attempt = any_api.attempt(job)
        (tmp_path / "page").write_bytes(PAGE)
        blob = context.store.put_file(f"jobs/{job}/a1/analysis.html", tmp_path / "page")
        page = ArtifactFile(
            name="analysis.html", media_type="text/html; charset=utf-8", **blob.model_dump()
        )
        lifecycle.finish(
            context.database, attempt, Status.SUCCEEDED, result=RESULT, artifacts=[page]
        )
        done.append(job)

    monkeypatch.setattr(CeleryQueue, "wake", work)
    return done


def test_json_is_made_once_and_kept(any_api: Api, worker: list[str]) -> None:
    first = any_api.get(URL)
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert first.json() == RESULT
    second = any_api.get(URL, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]
    assert any_api.get(URL, headers={"If-None-Match": '"other"'}).json() == RESULT
    assert len(worker) <= 1


def test_a_browser_gets_a_page_that_may_run_nothing(any_api: Api, worker: list[str]) -> None:
    answer = any_api.get(URL, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == PAGE
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["vary"] == "Accept"
    json_etag = any_api.get(URL).headers["etag"]
    assert answer.headers["etag"] != json_etag


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html"])
def test_programs_get_json(any_api: Api, worker: list[str], accept: str) -> None:
    assert any_api.get(URL, headers={"Accept": accept}).json() == RESULT


def test_an_unknown_model(any_api: Api) -> None:
    answer = any_api.get("/v1/models/mdl_none/analysis")
    assert answer.status_code == 404
    assert "mdl_none" in check_problem(answer)["detail"]


@pytest.mark.parametrize(
    ("error", "status"), [(EngineRefusal("It has no graph."), 422), (ChildCrashed("It died."), 500)]
)
def test_what_the_worker_meets_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: SecateurError, status: int
) -> None:
    def work(_: object, queue: str) -> None:
        attempt = api.attempt(waiting(api))
        lifecycle.finish(api.context.database, attempt, Status.FAILED, error=error.as_problem())

    monkeypatch.setattr(CeleryQueue, "wake", work)
    monkeypatch.setattr("app.services.analyses.version", lambda _: "another engine's")
    with api.expecting(status):
        answer = api.get(URL)
    assert answer.status_code == status
    assert check_problem(answer)["detail"] == error.detail


def test_without_a_worker_the_client_is_told_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.analyses.version", lambda _: "another engine's")
    monkeypatch.setattr(
        api.context.jobs,
        "settings",
        api.context.settings.model_copy(update={"plan_timeout_seconds": 0.1}),
    )
    answer = api.get(URL)
    assert answer.status_code == 503
    assert check_problem(answer)["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0
