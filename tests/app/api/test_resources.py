"""Every endpoint in its normal use, and the errors it documents."""

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.adapters.queue import CeleryQueue
from app.domain.errors import ChildCrashed, EngineRefusal, OutOfMemory
from app.domain.job import Progress, Status
from app.domain.metrics import Metrics
from app.domain.queues import QueueName
from app.services import lifecycle
from app.services.examples import DATASET_FILE, MODEL_FILE
from tests.app.api.conftest import SPEC, Api, check_problem

COLLECTIONS = ["models", "datasets", "jobs"]
JOB_MEMBERS = {
    "id",
    "status",
    "done",
    "created_at",
    "started_at",
    "finished_at",
    "attempt",
    "cancel_requested",
    "queue_position",
    "progress",
    "error",
    "metrics",
    "model",
    "dataset",
    "spec",
    "links",
}


def make(api: Api, collection: str) -> str:
    if collection == "jobs":
        return api.job()
    return str((api.model() if collection == "models" else api.dataset())["id"])


# --- the contract ------------------------------------------------------------------------------
def test_a_job_from_submit_to_delete(any_api: Api, tmp_path: Path) -> None:
    api = any_api
    model, data = api.model()["id"], api.dataset()["id"]
    answer = api.post("/v1/jobs", json=SPEC | {"model": model, "dataset": data})
    assert answer.status_code == 202
    job = answer.json()
    url = f"/v1/jobs/{job['id']}"
    assert answer.headers["location"] == url
    assert job.keys() >= JOB_MEMBERS
    assert (job["status"], job["done"], job["metrics"]) == ("queued", False, None)

    attempt = api.attempt(job["id"])
    lifecycle.report(api.context.database, attempt, Progress(phase="fine-tuning", share=0.25))
    job = api.get(url).json()
    assert (job["status"], job["done"], job["attempt"]) == ("running", False, 1)
    assert job["progress"]["phase"] == "fine-tuning"
    assert job["queue_position"] is None

    state = {"parameters": 2, "nonzero_parameters": 1, "macs": 3}
    metrics = Metrics.model_validate(
        {
            **dict.fromkeys(("before", "pruned", "after"), state),
            "equality": None,
            "per_layer": [],
            "phases_seconds": {},
            "verdict": [],
            "accuracy_measured": False,
            "peak_memory_bytes": 1,
            "seed": 0,
            "versions": {},
            "device": "cpu",
        }
    )
    lifecycle.finish(
        api.context.database, attempt, Status.SUCCEEDED, result=metrics.model_dump(mode="json")
    )
    job = api.get(url).json()
    assert (job["status"], job["done"], job["error"]) == ("succeeded", True, None)
    assert job["metrics"]["before"]["nonzero_parameters"] == 1
    for link in job["links"].values():
        assert api.get(link, headers={"accept": "application/json"}).status_code == 200

    assert api.post(f"{url}/cancel").status_code == 409
    assert api.post(f"{url}/retry").status_code == 409
    assert api.delete(url).status_code == 204
    assert api.get(url).status_code == 404


def test_a_failed_job_shows_its_problem_and_can_be_retried(any_api: Api) -> None:
    job = any_api.job()
    error = EngineRefusal("Layer x cannot be cut.", field="prune").as_problem()
    lifecycle.finish(any_api.context.database, any_api.attempt(job), Status.FAILED, error=error)
    shown = any_api.get(f"/v1/jobs/{job}").json()
    assert (shown["status"], shown["done"]) == ("failed", True)
    assert shown["error"]["type"] == "/problems/engine-refusal"
    assert shown["error"]["detail"] == "Layer x cannot be cut."
    assert (shown["error"]["fault"], shown["error"]["retryable"]) == ("client", False)
    answer = any_api.post(f"/v1/jobs/{job}/retry")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_cancel(any_api: Api) -> None:
    job = any_api.job()
    for _ in range(2):
        answer = any_api.post(f"/v1/jobs/{job}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert any_api.delete(f"/v1/jobs/{job}").status_code == 204


def test_an_unfinished_job_cannot_be_deleted(api: Api) -> None:
    answer = api.delete(f"/v1/jobs/{api.job()}")
    assert answer.status_code == 409
    assert check_problem(answer)["type"] == "/problems/wrong-state"


@pytest.mark.parametrize("collection", ["models", "datasets"])
def test_what_a_job_needs_cannot_be_deleted(any_api: Api, collection: str) -> None:
    model, data = any_api.model()["id"], any_api.dataset()["id"]
    job = any_api.job(model=model, dataset=data)
    url = f"/v1/{collection}/{model if collection == 'models' else data}"
    answer = any_api.delete(url)
    assert answer.status_code == 409
    problem = check_problem(answer)
    assert problem["type"] == "/problems/in-use"
    assert job in problem["detail"]
    any_api.post(f"/v1/jobs/{job}/cancel")
    assert any_api.delete(url).status_code == 204
    assert any_api.get(url).status_code == 404


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_what_is_not_there(any_api: Api, collection: str) -> None:
    url = f"/v1/{collection}/{collection[:3]}_none"
    assert check_problem(any_api.get(url))["type"] == "/problems/not-found"
    assert any_api.delete(url).status_code == 404


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"model": "mdl_none"}, "model"),
        ({"dataset": "dts_none"}, "dataset"),
        ({"time_limit_seconds": 10**9}, "time_limit_seconds"),
        (
            {"prune": SPEC["prune"] | {"layers": [{"match": "none", "skip": True}]}},
            "prune.layers.0.match",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/specs/validate"])
def test_a_spec_that_contradicts_its_model(
    any_api: Api, path: str, parts: dict[str, Any], field: str
) -> None:
    answer = any_api.post(path, json=SPEC | parts)
    assert answer.status_code == 422
    assert check_problem(answer)["field"] == field


# --- dry run -----------------------------------------------------------------------------------
SIZE = {"parameters": 1, "nonzero_parameters": 1, "macs": 1, "bytes": 4}
PLAN = {
    "granularity": "channel",
    "before": SIZE,
    "after": SIZE,
    "layers": [],
    "target": None,
    "notes": [],
    "waiting_reason": None,
}
FINDINGS = ({"field": "prune", "detail": "x"},)


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (PLAN, 200),
        (EngineRefusal("No.", field="prune", errors=FINDINGS), 422),
        (OutOfMemory("It needs more."), 422),
        (ChildCrashed("It crashed."), 500),
    ],
)
def test_a_dry_run_answers_what_the_worker_found(
    api: Api, monkeypatch: pytest.MonkeyPatch, ending: Any, status: int
) -> None:
    def work(_: object, queue: QueueName) -> None:
        assert queue == "quick"
        database = api.context.database
        attempt = lifecycle.claim_next(
            database, queue, "worker", 60, memory_bytes=1, priority_seconds=60
        )
        assert attempt is not None
        if isinstance(ending, dict):
            lifecycle.finish(database, attempt, Status.SUCCEEDED, result=ending)
        else:
            lifecycle.finish(database, attempt, Status.FAILED, error=ending.as_problem())

    monkeypatch.setattr(CeleryQueue, "wake", work)
    with api.expecting(status):
        answer = api.post("/v1/specs/validate", json=SPEC)
    if isinstance(ending, dict):
        assert answer.json() | {"waiting_reason": None} == ending
        assert "secateur worker --queue jobs" in answer.json()["waiting_reason"]
    else:
        problem = check_problem(answer)
        assert problem["type"] == f"/problems/{ending.slug}"
        assert problem.get("field") == ending.field
        assert problem.get("errors", []) == list(ending.errors)


# --- lists -------------------------------------------------------------------------------------
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_pages_are_stable_while_new_items_arrive(any_api: Api, collection: str) -> None:
    url = f"/v1/{collection}"
    made = [make(any_api, collection) for _ in range(3)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = any_api.get(url, params=parameters).json()
        assert len(answer["items"]) <= 2
        seen += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        if len(seen) <= 4:
            make(any_api, collection)
    assert len(seen) == len(set(seen)), "an item came twice"
    assert set(made) <= set(seen), "an item was missed"


def test_the_last_page_has_no_cursor(api: Api) -> None:
    answer = api.get("/v1/models", params={"limit": 200}).json()
    assert answer["next_cursor"] is None
    exact = api.get("/v1/models", params={"limit": min(len(answer["items"]), 200) or 1}).json()
    assert exact["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "~~~", "job_", "%F0%9F%8C%B3", "mdl_00000000000000000000"])
def test_any_text_is_a_cursor(any_api: Api, cursor: str) -> None:
    for collection in COLLECTIONS:
        assert any_api.get(f"/v1/{collection}?cursor={cursor}").status_code == 200


def test_filters(any_api: Api) -> None:
    model = any_api.model()
    job = any_api.job(model=model["id"])
    for query in (f"model={model['id']}", f"model={model['id']}&status=queued"):
        items = any_api.get(f"/v1/jobs?{query}").json()["items"]
        assert [item["id"] for item in items] == [job]
    assert any_api.get(f"/v1/jobs?model={model['id']}&status=failed").json()["items"] == []
    assert any_api.get(f"/v1/models?sha256={'0' * 64}").json()["items"] == []
    same = any_api.get(f"/v1/models?sha256={model['sha256']}&limit=200").json()["items"]
    assert model["id"] in {item["id"] for item in same}


def test_newest_first(api: Api) -> None:
    first = api.job()
    time.sleep(0.002)
    second = api.job()
    ids = [item["id"] for item in api.get("/v1/jobs?limit=200").json()["items"]]
    assert ids.index(second) < ids.index(first)


# --- Idempotency-Key ---------------------------------------------------------------------------
def create(api: Api, collection: str, key: str, variant: int = 0) -> Any:
    headers = {"idempotency-key": key}
    if collection == "jobs":
        return api.post("/v1/jobs", json=SPEC | {"seed": variant}, headers=headers)
    if collection == "models":
        content = packed_anew(MODEL_FILE) if variant else MODEL_FILE.read_bytes()
        return api.post("/v1/models", files={"file": ("m.keras", content)}, headers=headers)
    fields = {"options": '{"scale": 0.5}'} if variant else {}
    return api.post(
        "/v1/datasets",
        files={"file": ("d.npz", DATASET_FILE.read_bytes())},
        data=fields,
        headers=headers,
    )


def packed_anew(file: Path) -> bytes:
    """The same model in another zip."""
    made = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return made.getvalue()


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_repeated_request_creates_nothing(any_api: Api, collection: str) -> None:
    key = f"repeat-{collection}"
    first, second = create(any_api, collection, key), create(any_api, collection, key)
    assert first.status_code == second.status_code < 300
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_another_request_under_the_key_is_refused(any_api: Api, collection: str) -> None:
    key = f"other-{collection}"
    assert create(any_api, collection, key).status_code < 300
    answer = create(any_api, collection, key, variant=1)
    assert answer.status_code == 409, answer.text
    problem = check_problem(answer)
    assert problem["type"] == "/problems/idempotency-conflict"
    assert problem["field"] == "Idempotency-Key"


def test_a_key_may_be_any_header_text(any_api: Api) -> None:
    for key in (b"a b", b"\xe9", b"'; --", b"x" * 255):
        headers = {b"idempotency-key": key}
        answer = any_api.post("/v1/jobs", json=SPEC, headers=headers)
        assert answer.status_code == 202


# --- the examples ------------------------------------------------------------------------------
def test_the_examples_are_there_when_they_are_named(any_api: Api) -> None:
    assert any_api.get("/v1/models/mdl_example").json()["filename"] == "digits.keras"
    assert any_api.get("/v1/datasets/dts_example").json()["filename"] == "digits.npz"
    assert any_api.get("/v1/jobs/job_example").json()["model"] == "mdl_example"
    for name in ("digits.keras", "digits.npz"):
        assert any_api.get(f"/examples/{name}").status_code == 200
