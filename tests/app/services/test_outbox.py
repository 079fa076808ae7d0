"""Whatever ends a job writes its messages in the same transaction, and nothing else does."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters.database import DeliveryRow
from app.domain.errors import AttemptsExhausted, Unavailable
from app.domain.job import ArtifactFile, Status
from app.domain.people import Caller
from app.domain.sweep import SweepSpec, members
from app.domain.webhook import WebhookSpec
from app.services import lifecycle, operations, outbox
from app.services.resources import moment
from app.services.sweeps import Sweeps
from app.services.webhooks import Webhooks, WebhookWithSecret
from tests.app.services.conftest import World, spec

URL = "https://hooks.example/"
FILE = ArtifactFile(
    name="model.keras", key="jobs/x/a1/m", bytes=1, sha256="d" * 64, media_type="application/x"
)


def hook(world: World, *events: Any, **parts: Any) -> WebhookWithSecret:
    asked = {"url": URL, **parts} | ({"events": events} if events else {})
    return Webhooks(world.database, world.settings).create(WebhookSpec.model_validate(asked))


def written(world: World) -> list[dict[str, Any]]:
    """What waits to be sent: bodies, oldest first."""
    with world.database.read() as session:
        rows = session.scalars(select(DeliveryRow).order_by(DeliveryRow.id)).all()
    for row in rows:
        assert (row.state, row.attempts, row.log) == ("pending", 0, [])
        assert row.next_at == row.created_at
    found = [json.loads(row.body) for row in rows]
    assert [row.event for row in rows] == [body["type"] for body in found]
    assert [row.subject for row in rows] == [body["data"]["id"] for body in found]
    return found


# --- every way a job ends ------------------------------------------------------------------------
def succeed(world: World, job: str) -> None:
    result = {"verdict": ["It became half as large."]}
    lifecycle.finish(
        world.database, world.attempt(job), Status.SUCCEEDED, result=result, artifacts=[FILE]
    )


def fail(world: World, job: str) -> None:
    error = AttemptsExhausted("It broke.").as_problem()
    lifecycle.finish(world.database, world.attempt(job), Status.FAILED, error=error)


def cancel_queued(world: World, job: str) -> None:
    world.jobs.cancel(job)


def cancel_running(world: World, job: str) -> None:
    attempt = world.attempt(job)
    world.jobs.cancel(job)
    lifecycle.finish(world.database, attempt, Status.CANCELLED)


def cancel_handed_back(world: World, job: str) -> None:
    attempt = world.attempt(job)
    world.jobs.cancel(job)
    lifecycle.hand_back(world.database, attempt, "shutdown")


def cancel_lost(world: World, job: str) -> None:
    world.attempt(job)
    world.jobs.cancel(job)
    world.lose_worker(job)
    lifecycle.reap(world.database)


def lose_too_often(world: World, job: str) -> None:
    world.attempt(job)
    world.change(job, attempts_allowed=1)
    world.lose_worker(job)
    lifecycle.reap(world.database)


def cancel_by_operator(world: World, job: str) -> None:
    world.attempt(job)
    world.jobs.cancel(job)
    operations.requeue(world.database, world.settings, job)


def cancel_postponed(world: World, job: str) -> None:
    attempt = world.attempt(job)
    world.jobs.cancel(job)
    lifecycle.postpone(world.database, attempt, Unavailable("The store is away."))


def postpone_too_often(world: World, job: str) -> None:
    attempt = world.attempt(job)
    world.change(job, attempts_allowed=1)
    lifecycle.postpone(world.database, attempt, Unavailable("The store is away."))


ENDS: dict[Callable[[World, str], None], Status] = {
    succeed: Status.SUCCEEDED,
    fail: Status.FAILED,
    cancel_queued: Status.CANCELLED,
    cancel_running: Status.CANCELLED,
    cancel_handed_back: Status.CANCELLED,
    cancel_lost: Status.CANCELLED,
    lose_too_often: Status.FAILED,
    cancel_by_operator: Status.CANCELLED,
    cancel_postponed: Status.CANCELLED,
    postpone_too_often: Status.FAILED,
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_each_end_of_a_job_is_told_once(world: World, end: Callable[[World, str], None]) -> None:
    hook(world)
    job = world.job()
    end(world, job)
    (body,) = written(world)
    assert body["type"] == f"job.{ENDS[end]}"
    row, data = world.row(job), body["data"]
    assert data["status"] == row.state == ENDS[end]
    assert (data["id"], data["attempt"]) == (job, row.fence)
    assert (data["model"], data["dataset"], data["sweep"]) == ("mdl_1", "dts_1", None)
    assert data["error"] == row.error
    assert datetime.fromisoformat(data["finished_at"]) == moment(row.finished_at)
    lifecycle.reap(world.database)
    assert len(written(world)) == 1


def test_a_success_tells_what_was_gained(world: World) -> None:
    hook(world)
    job = world.job()
    succeed(world, job)
    data = written(world)[0]["data"]
    assert data["verdict"] == ["It became half as large."]
    assert data["artifacts"] == ["model.keras"]
    assert data["links"] == {"self": f"/v1/jobs/{job}", "artifacts": f"/v1/jobs/{job}/artifacts"}


def test_what_goes_on_is_not_told(world: World) -> None:
    hook(world)
    attempt = world.attempt()
    lifecycle.hand_back(world.database, attempt, "shutdown")
    world.attempt(attempt.job)
    world.lose_worker(attempt.job)
    lifecycle.reap(world.database)
    world.jobs.cancel(world.attempt().job)
    assert written(world) == []


def test_a_zombie_tells_nothing(world: World) -> None:
    hook(world)
    zombie = world.attempt()
    world.lose_worker(zombie.job)
    world.attempt(zombie.job)
    with pytest.raises(lifecycle.LeaseLost):
        lifecycle.finish(world.database, zombie, Status.SUCCEEDED)
    assert written(world) == []


def test_dry_runs_are_nobody_s_news(world: World) -> None:
    hook(world)
    plan = world.jobs._begin_plan(spec())
    lifecycle.finish(world.database, world.attempt(plan), Status.SUCCEEDED, result={})
    assert written(world) == []


def test_a_job_has_not_ended_when_its_message_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(world)
    attempt = world.attempt()

    def broken(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(outbox, "_write", broken)
    with pytest.raises(RuntimeError):
        lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={})
    assert world.row(attempt.job).state == Status.RUNNING
    assert world.events(attempt.job) == ["queued", "running"]


def test_a_retried_job_ends_again(world: World) -> None:
    hook(world)
    job = world.job()
    fail(world, job)
    world.jobs.retry(job)
    succeed(world, job)
    assert [body["type"] for body in written(world)] == ["job.failed", "job.succeeded"]


# --- who is told ---------------------------------------------------------------------------------
def test_webhooks_get_the_events_they_ask_for(world: World) -> None:
    failures, all_ = hook(world, "job.failed"), hook(world)
    hook(world, enabled=False)
    foreign = Webhooks(world.database, world.settings, Caller(owner="bob"))
    foreign.create(WebhookSpec(url=URL))
    succeed(world, world.job())
    fail(world, world.job())
    with world.database.read() as session:
        rows = session.execute(select(DeliveryRow.webhook_id, DeliveryRow.event)).all()
    assert sorted(rows) == sorted(
        [
            (all_.id, "job.succeeded"),
            (all_.id, "job.failed"),
            (failures.id, "job.failed"),
        ]
    )


# --- sweeps --------------------------------------------------------------------------------------
def sweep(world: World, jobs: int) -> tuple[str, list[str]]:
    asked = SweepSpec(
        base=spec().model_dump(mode="json"), grid={"seed": tuple(range(jobs))}, name="seeds"
    )
    read = [(each, spec(seed=each.varied["seed"])) for each in members(asked)]
    body = Sweeps(world.jobs).submit(asked, read).body
    return body["id"], [job["job"] for job in body["jobs"]]


def test_a_sweep_is_told_when_its_last_job_has_ended(world: World) -> None:
    hook(world, "sweep.completed")
    id_, jobs = sweep(world, 3)
    succeed(world, jobs[0])
    fail(world, jobs[1])
    assert written(world) == []
    world.jobs.cancel(jobs[2])
    (body,) = written(world)
    assert body["data"] == {
        "id": id_,
        "name": "seeds",
        "created_at": body["data"]["created_at"],
        "counts": {"succeeded": 1, "failed": 1, "cancelled": 1},
        "links": {"self": f"/v1/sweeps/{id_}", "table": f"/v1/sweeps/{id_}/table.csv"},
    }


def test_a_cancelled_sweep_is_told_once(world: World) -> None:
    hook(world, "sweep.completed")
    id_, _ = sweep(world, 4)
    Sweeps(world.jobs).cancel(id_)
    Sweeps(world.jobs).cancel(id_)
    (body,) = written(world)
    assert body["data"]["counts"] == {"cancelled": 4}


def test_jobs_that_end_at_once_complete_a_sweep_once(world: World) -> None:
    hook(world, "sweep.completed")
    for round_ in range(1, 6):
        _, jobs = sweep(world, 4)
        attempts = [world.attempt(job) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda attempt: lifecycle.finish(world.database, attempt, Status.SUCCEEDED),
                    attempts,
                )
            )
        assert len(written(world)) == round_
