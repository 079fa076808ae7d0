"""Health, metrics, request ids, and what the API process must not load."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.confinement import Confinement, Mechanism
from app.services import workers
from app.settings import Settings
from tests.app.api.conftest import SPEC, Api, check_problem, serve
from tests.app.importing import loaded
from tests.servers import free_port


def samples(api: Api) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric → label values → value."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


# --- health ------------------------------------------------------------------------------------
def test_a_healthy_service(any_api: Api) -> None:
    assert any_api.get("/healthz").json() == {"status": "ok"}
    ready = any_api.get("/readyz").json()
    assert ready.pop("confinement").startswith("unknown")
    assert ready == {
        "ready": True,
        "database": "ok",
        "broker": "ok",
        "store": "ok",
        "workers": [],
    }


def test_without_a_broker_jobs_are_accepted_and_the_service_is_not_ready(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        broker_url=f"redis://127.0.0.1:{free_port()}/0",
        plan_timeout_seconds=0.1,
    )
    with serve(settings) as api:
        answer = api.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["database"] == "ok"
        assert "broker" in answer.json()["broker"]
        assert api.get("/healthz").status_code == 200
        assert api.post("/v1/jobs", json=SPEC).status_code == 202
        dry_run = api.post("/v1/specs/validate", json=SPEC)
        assert dry_run.status_code == 503
        assert check_problem(dry_run)["retryable"] is True


def test_without_a_database_every_answer_is_a_retryable_problem(
    tmp_path: Path, broker_url: str
) -> None:
    with serve(Settings(data_dir=tmp_path, broker_url=broker_url)) as api:
        api.context.database.close()
        (tmp_path / "secateur.sqlite3").rename(tmp_path / "away")
        (tmp_path / "secateur.sqlite3").mkdir()
        assert api.get("/readyz").status_code == 503
        assert api.get("/readyz").json()["broker"] == "ok"
        for path in (
            "/v1/models",
            "/v1/datasets",
            "/v1/jobs",
            "/v1/jobs/job_1",
            "/v1/jobs/job_1/events",
            "/v1/jobs/job_1/artifacts",
            "/v1/jobs/job_1/artifacts/x",
            "/v1/models/mdl_example",
        ):
            answer = api.get(path)
            assert answer.status_code == 503, path
            assert check_problem(answer)["retryable"] is True
            assert int(answer.headers["retry-after"]) > 0
        up = samples(api)
        assert up["secateur_up"] == {("broker",): 1, ("database",): 0}
        assert "secateur_jobs" not in up
        assert api.post("/v1/jobs", json=SPEC).status_code == 503
        assert api.delete("/v1/models/mdl_1").status_code == 503
        assert api.get("/healthz").status_code == 200


# --- metrics -----------------------------------------------------------------------------------
def test_the_gauges_count_jobs(any_api: Api) -> None:
    before = samples(any_api)["secateur_jobs"]
    assert {labels[0] for labels in before} == {
        "queued",
        "running",
        "succeeded",
        "failed",
        "cancelled",
    }
    any_api.job()
    any_api.post(f"/v1/jobs/{any_api.job()}/cancel")
    after = samples(any_api)
    assert after["secateur_jobs"]["queued",] == before["queued",] + 1
    assert after["secateur_jobs"]["cancelled",] == before["cancelled",] + 1
    assert after["secateur_queue_oldest_seconds"][()] >= 0


def test_requests_are_counted_by_route(api: Api) -> None:
    labels = ("GET", "/v1/jobs/{job_id}", "404")
    before = samples(api)["secateur_http_requests_total"].get(labels, 0)
    api.get("/v1/jobs/one")
    api.get("/v1/jobs/two")
    assert samples(api)["secateur_http_requests_total"][labels] == before + 2


def test_a_scanner_does_not_grow_the_metrics(api: Api) -> None:
    async def scan() -> None:
        # Not through uvicorn, whose faster parser knows no strange methods; its other one does.
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for number in range(3):
                assert (await client.get(f"/nope/{number}")).status_code == 404
                assert (await client.request(f"X{number}", "/v1/jobs")).status_code == 405

    asyncio.run(scan())
    for labels in samples(api)["secateur_http_requests_total"]:
        assert not re.search(r"nope|X\d", " ".join(labels)), labels


# --- request ids -------------------------------------------------------------------------------
def test_a_request_id_is_echoed(api: Api) -> None:
    for path in ("/healthz", "/nope", "/v1/jobs/none", "/v1/jobs?limit=0"):
        assert api.get(path, headers={"x-request-id": "my-id_1.2"}).headers["x-request-id"] == (
            "my-id_1.2"
        )


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "é", "<script>"])
def test_an_unfit_request_id_is_replaced(api: Api, given: str) -> None:
    answer = api.get("/healthz", headers={b"x-request-id": given.encode("latin-1")})
    assert re.fullmatch(r"req_[0-9A-Z]{26}", answer.headers["x-request-id"])


def test_a_refused_body_has_a_request_id_too(api: Api) -> None:
    answer = api.post(
        "/v1/jobs", content=b"x" * 2**21, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.headers["x-request-id"].startswith("req_")


# --- imports -----------------------------------------------------------------------------------
def test_the_api_loads_neither_keras_nor_tensorflow_nor_workers() -> None:
    code = "import app.main, app.cli, app.api.context; app.main.create_app()"
    heavy = {"keras", "tensorflow", "workers", "ai_edge_litert", "jax", "torch"}
    assert loaded(code, heavy | {"onnx", "onnxruntime", "tf2onnx"}) == set()


# --- workers -----------------------------------------------------------------------------------
def confinement(**missing: str) -> Confinement:
    names = ("user", "landlock", "seccomp", "network")
    return Confinement(
        **{
            name: Mechanism(active=name not in missing, detail=missing.get(name, "tried"))
            for name in names
        }
    )


@pytest.fixture
def worker(api: Api) -> Iterator[Callable[[str, Confinement], None]]:
    """Reports a worker; all are forgotten afterwards, since the service is the module's."""
    reported = []

    def report(name: str, told: Confinement) -> None:
        workers.report(api.context.database, name, told)
        reported.append(name)

    yield report
    for name in reported:
        workers.forget(api.context.database, name)


def test_readiness_and_capabilities_say_what_confines_jobs(
    api: Api, worker: Callable[[str, Confinement], None]
) -> None:
    worker("host:1", confinement())
    assert api.get("/readyz").json()["confinement"] == "ok"
    worker("host:2", confinement(network="not allowed"))
    ready = api.get("/readyz").json()
    assert ready["ready"] is True
    assert "host:2 runs jobs" in ready["confinement"]
    assert "without a network namespace of its own (not allowed)" in ready["confinement"]
    told = api.get("/v1/capabilities").json()["confinement"]
    assert [one["worker"] for one in told] == ["host:1", "host:2"]
    assert told[1]["confinement"]["network"] == {"active": False, "detail": "not allowed"}


def test_the_service_is_not_ready_where_every_worker_refuses_jobs(
    api: Api, worker: Callable[[str, Confinement], None]
) -> None:
    refusing = confinement(seccomp="no such call")
    worker("host:1", refusing)
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert "host:1 refuses jobs" in answer.json()["confinement"]
    allowed = refusing.model_copy(update={"overridden": True})
    worker("host:2", allowed)
    assert api.get("/readyz").status_code == 200
