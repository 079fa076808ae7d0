"""What /metrics says beside requests: jobs from the database, uploads, latencies."""

from pathlib import Path

import pytest

from app.adapters.database import JobRow
from app.api import figures
from app.domain.job import Status
from app.services import lifecycle, workers
from app.services.tallies import KINDS
from tests.app.api.conftest import Api
from tests.app.api.test_service import confinement, samples


def grown(api: Api, name: str, labels: tuple[str, ...], before: dict[str, dict]) -> float:
    return samples(api)[name].get(labels, 0) - before.get(name, {}).get(labels, 0)


def test_ended_jobs_are_counted_and_their_phases_timed(any_api: Api) -> None:
    before = samples(any_api)
    attempt = any_api.attempt(any_api.job())
    lifecycle.finish(
        any_api.context.database, attempt, Status.SUCCEEDED, phases={"loading": 3.0, "pruning": 0.2}
    )
    assert grown(any_api, "secateur_jobs_ended_total", ("prune", "succeeded"), before) == 1
    assert grown(any_api, "secateur_job_phase_seconds_sum", ("loading",), before) == 3
    buckets = "secateur_job_phase_seconds_bucket"
    for edge, number in (("1", 0), ("2.5", 0), ("5", 1), ("21600", 1), ("+Inf", 1)):
        assert grown(any_api, buckets, (edge, "loading"), before) == number, edge
    assert grown(any_api, "secateur_job_run_seconds_count", ("prune", "succeeded"), before) == 1


def test_counters_begin_at_zero(any_api: Api) -> None:
    found = samples(any_api)
    assert {labels[0] for labels in found["secateur_attempts_lost_total"]} == set(KINDS)
    assert ("prune", "out-of-memory") in found["secateur_job_failures_total"]
    assert set(found["secateur_reaper_rounds_total"]) == {("ok",), ("failed",)}


def test_running_jobs_are_shown_by_worker_and_gone_with_them(any_api: Api) -> None:
    attempt = any_api.attempt(any_api.job())
    assert samples(any_api)["secateur_running_jobs"]["worker",] >= 1
    lifecycle.finish(any_api.context.database, attempt, Status.CANCELLED)
    workers.report(any_api.context.database, "host:9", confinement())
    assert samples(any_api)["secateur_workers"][()] == 1
    workers.forget(any_api.context.database, "host:9")


def test_more_workers_than_a_dashboard_shows_share_a_label(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_WORKERS", 1)
    jobs = [api.job() for _ in range(3)]
    for number, job in enumerate(jobs):
        assert lifecycle.claim(api.context.database, job, f"a{number}", 60)
    shown = samples(api)["secateur_running_jobs"]
    with api.context.database.write() as session:
        for job in jobs:
            session.delete(session.get_one(JobRow, job))
    assert len(shown) == 2
    assert shown["other",] >= 2


def test_refused_uploads_are_counted_by_problem(api: Api) -> None:
    before = samples(api)
    api.post("/v1/models", files={"file": ("m.keras", b"no model")})
    api.post("/v1/datasets", files={"file": ("d.npz", b"no data")})
    api.post("/v1/jobs", json={})
    name = "secateur_uploads_refused_total"
    assert grown(api, name, ("models", "invalid-model"), before) == 1
    assert grown(api, name, ("datasets", "invalid-dataset"), before) == 1
    assert {labels[0] for labels in samples(api)[name]} == {"models", "datasets"}


def test_readings_statements_and_the_store_are_timed(api: Api, tmp_path: Path) -> None:
    before = samples(api)
    api.model()
    job = api.finished(tmp_path, model_keras=b"x" * 1000)
    assert api.get(f"/v1/jobs/{job}/artifacts/model.keras").status_code == 200
    assert grown(api, "secateur_intake_seconds_count", ("model", "accepted"), before) == 1
    for operation in ("commit", "put_file", "read"):
        assert grown(api, "secateur_store_seconds_count", (operation,), before) >= 1, operation
    for operation in ("insert", "update", "select"):
        name = "secateur_database_statement_seconds_count"
        assert grown(api, name, (operation,), before) >= 1, operation
    assert grown(api, "secateur_database_transaction_seconds_count", ("write",), before) >= 1
