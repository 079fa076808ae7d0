"""Queues over HTTP: what waits where, and what a full service answers."""

from pathlib import Path

import pytest

from app.settings import Settings
from tests.app.api.conftest import SPEC, Api, check_problem, serve
from tests.app.api.test_service import samples


def test_a_job_says_where_it_waits_and_that_nobody_serves_it(any_api: Api) -> None:
    job = any_api.job(resources={"accelerator": "gpu"}, priority=3)
    told = any_api.get(f"/v1/jobs/{job}").json()
    assert (told["queue"], told["status"], told["spec"]["priority"]) == ("gpu", "queued", 3)
    assert told["waiting_reason"].startswith("No worker that is alive takes jobs that need a GPU.")
    metrics = samples(any_api)
    assert metrics["secateur_queue_waiting"]["gpu",] >= 1
    assert metrics["secateur_queue_waiting_seconds"]["gpu",] >= 0
    assert metrics["secateur_queue_workers"]["gpu",] == 0
    assert set(metrics["secateur_queue_running"]) == {("jobs",), ("quick",), ("gpu",), ("large",)}
    ended = any_api.post(f"/v1/jobs/{job}/cancel").json()
    assert (ended["queue_position"], ended["waiting_reason"]) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"priority": 11}, "priority"),
        ({"resources": {"accelerator": "tpu"}}, "resources.accelerator"),
        ({"resources": {"memory_bytes": 0}}, "resources.memory_bytes"),
        ({"resources": {"memory": 1}}, "resources.memory"),
    ],
)
def test_needs_that_are_not_understood_are_refused(
    api: Api, wrong: dict[str, object], field: str
) -> None:
    answer = api.post("/v1/jobs", json=SPEC | wrong)
    assert answer.status_code == 422
    assert check_problem(answer)["field"] == field


def test_a_full_service_answers_503_and_says_when_to_try_again(
    tmp_path: Path, broker_url: str
) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=broker_url, queued_jobs_limit=1)
    with serve(settings) as api:
        kept = api.job()
        for path, body in (
            ("/v1/jobs", SPEC),
            ("/v1/sweeps", {"base": SPEC, "grid": {"seed": [1, 2]}}),
        ):
            answer = api.post(path, json=body)
            assert answer.status_code == 503
            problem = check_problem(answer)
            assert (problem["type"], problem["retryable"]) == ("/problems/queues-full", True)
            assert int(answer.headers["retry-after"]) > 0
        assert [job["id"] for job in api.get("/v1/jobs").json()["items"]] == [kept]
