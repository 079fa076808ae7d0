"""The life of a job: one owner at a time, whoever else is late changes nothing."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func

from app.adapters.database import Database, JobRow
from app.domain.errors import AttemptsExhausted
from app.domain.job import ArtifactFile, Attempt, Checkpoint, Progress, Status
from app.services import events, lifecycle
from app.services.lifecycle import LeaseLost
from tests.app.services.conftest import LEASE_SECONDS, World

CHECKPOINT = Checkpoint(key="jobs/x/a1/checkpoint-2.zip", sha256="c" * 64, bytes=3, epoch=2)
FILE = ArtifactFile(
    name="model.keras", key="jobs/x/a1/m", bytes=1, sha256="d" * 64, media_type="application/x"
)


def snapshot(world: World, job: str) -> dict[str, Any]:
    row = world.row(job)
    return {column.name: getattr(row, column.name) for column in JobRow.__table__.columns}


# --- claim -------------------------------------------------------------------------------------
def test_of_eight_workers_one_gets_the_job(world: World) -> None:
    job = world.job()
    barrier = threading.Barrier(8)

    def claim(worker: int) -> Attempt | None:
        barrier.wait()
        return lifecycle.claim(world.database, job, f"w{worker}", LEASE_SECONDS)

    with ThreadPoolExecutor(8) as pool:
        got = [attempt for attempt in pool.map(claim, range(8)) if attempt]
    assert [attempt.fence for attempt in got] == [1]
    assert world.events(job) == ["queued", "running"]


def test_a_claim_tells_the_worker_everything(world: World) -> None:
    attempt = world.attempt()
    assert attempt.model_key == "blobs/aa/m"
    assert attempt.dataset_sha256 == "b" * 64
    assert attempt.model.parameters > 0
    assert attempt.dataset is not None
    assert attempt.checkpoint is None
    assert attempt.time_limit_seconds == world.settings.job_time_limit_seconds
    assert attempt.seconds_used == 0


def test_a_running_job_cannot_be_claimed(world: World) -> None:
    attempt = world.attempt()
    assert lifecycle.claim(world.database, attempt.job, "two", LEASE_SECONDS) is None


def test_an_unknown_job_cannot_be_claimed(world: World) -> None:
    assert lifecycle.claim(world.database, "job_none", "one", LEASE_SECONDS) is None


def test_a_cancelled_job_cannot_be_claimed(world: World) -> None:
    job = world.job()
    world.jobs.cancel(job)
    assert lifecycle.claim(world.database, job, "one", LEASE_SECONDS) is None


def test_an_expired_lease_can_be_claimed_by_another(world: World) -> None:
    first = world.attempt(worker="one")
    world.lose_worker(first.job)
    second = world.attempt(first.job, worker="two")
    assert second.fence == first.fence + 1
    assert second.seconds_used == pytest.approx(10, abs=0.5)
    assert world.row(first.job).worker == "two"


def test_the_last_attempt_is_not_followed_by_another_claim(world: World) -> None:
    attempt = world.attempt()
    world.lose_worker(attempt.job)
    world.change(attempt.job, attempts_allowed=1)
    assert lifecycle.claim(world.database, attempt.job, "two", LEASE_SECONDS) is None


# --- fencing -----------------------------------------------------------------------------------
WRITES: dict[str, Callable[[Database, Attempt], object]] = {
    "heartbeat": lambda database, attempt: lifecycle.heartbeat(database, attempt, 999),
    "report": lambda database, attempt: lifecycle.report(
        database, attempt, Progress(phase="pruning", share=0.9), [("note", {"text": "late"})]
    ),
    "checkpoint": lambda database, attempt: lifecycle.keep_checkpoint(
        database, attempt, CHECKPOINT
    ),
    "succeed": lambda database, attempt: lifecycle.finish(
        database, attempt, Status.SUCCEEDED, result={"late": True}, artifacts=[FILE]
    ),
    "fail": lambda database, attempt: lifecycle.finish(
        database, attempt, Status.FAILED, error={"detail": "late"}
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_zombie_changes_nothing(
    world: World, write: Callable[[Database, Attempt], object]
) -> None:
    zombie = world.attempt(worker="zombie")
    world.lose_worker(zombie.job)
    world.attempt(zombie.job, worker="owner")
    before = snapshot(world, zombie.job), world.events(zombie.job)
    with pytest.raises(LeaseLost):
        write(world.database, zombie)
    assert (snapshot(world, zombie.job), world.events(zombie.job)) == before
    assert world.jobs.artifacts(zombie.job) == []


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_ended_job_is_written_no_more(
    world: World, write: Callable[[Database, Attempt], object]
) -> None:
    attempt = world.attempt()
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={"n": 1})
    before = snapshot(world, attempt.job), world.events(attempt.job)
    with pytest.raises(LeaseLost):
        write(world.database, attempt)
    assert (snapshot(world, attempt.job), world.events(attempt.job)) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_deleted_job_is_written_no_more(
    world: World, write: Callable[[Database, Attempt], object]
) -> None:
    attempt = world.attempt()
    lifecycle.finish(world.database, attempt, Status.FAILED, error={"detail": "x"})
    world.jobs.delete(attempt.job)
    with pytest.raises(LeaseLost):
        write(world.database, attempt)


def test_a_zombie_that_hands_back_changes_nothing(world: World) -> None:
    zombie = world.attempt()
    world.lose_worker(zombie.job)
    world.attempt(zombie.job, worker="owner")
    before = snapshot(world, zombie.job), world.events(zombie.job)
    lifecycle.hand_back(world.database, zombie, "The worker shut down.")
    assert (snapshot(world, zombie.job), world.events(zombie.job)) == before


def test_of_two_finishers_one_wins(world: World) -> None:
    attempt = world.attempt()
    barrier = threading.Barrier(4)

    def finish(number: int) -> bool:
        barrier.wait()
        try:
            lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={"by": number})
        except LeaseLost:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(finish, range(4))) == 1
    assert world.events(attempt.job).count("succeeded") == 1


# --- while it runs -----------------------------------------------------------------------------
def test_a_heartbeat_renews_the_lease_and_tells_of_a_cancel(world: World) -> None:
    attempt = world.attempt()
    before = world.row(attempt.job).lease_expires_at or 0
    assert lifecycle.heartbeat(world.database, attempt, 2 * LEASE_SECONDS) is False
    assert (world.row(attempt.job).lease_expires_at or 0) > before + LEASE_SECONDS / 2
    world.jobs.cancel(attempt.job)
    assert lifecycle.heartbeat(world.database, attempt, LEASE_SECONDS) is True


def test_progress_and_events_are_written_together(world: World) -> None:
    attempt = world.attempt()
    lifecycle.report(
        world.database,
        attempt,
        Progress(phase="fine-tuning", share=0.5, epoch=1, metrics={"loss": None}),
        [("epoch", {"epoch": 1}), ("note", {"text": "ü"})],
    )
    progress = world.jobs.get(attempt.job).progress
    assert progress is not None
    assert (progress.phase, progress.metrics) == ("fine-tuning", {"loss": None})
    assert world.events(attempt.job) == ["queued", "running", "epoch", "note"]


def test_the_next_attempt_gets_the_checkpoint(world: World) -> None:
    attempt = world.attempt()
    lifecycle.keep_checkpoint(world.database, attempt, CHECKPOINT)
    world.lose_worker(attempt.job)
    lifecycle.reap(world.database)
    assert world.attempt(attempt.job).checkpoint == CHECKPOINT


# --- the end -----------------------------------------------------------------------------------
def test_success_publishes_result_and_artifacts(world: World) -> None:
    attempt = world.attempt()
    lifecycle.keep_checkpoint(world.database, attempt, CHECKPOINT)
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={"n": 1}, artifacts=[FILE])
    row = world.row(attempt.job)
    assert (row.state, row.result, row.checkpoint) == ("succeeded", {"n": 1}, None)
    assert row.lease_expires_at is None
    assert row.finished_at is not None
    assert world.jobs.artifacts(attempt.job) == [FILE]


def test_failure_keeps_the_checkpoint_for_a_retry(world: World) -> None:
    attempt = world.attempt()
    lifecycle.keep_checkpoint(world.database, attempt, CHECKPOINT)
    lifecycle.finish(world.database, attempt, Status.FAILED, error={"detail": "x"})
    world.jobs.retry(attempt.job)
    again = world.attempt(attempt.job)
    assert again.checkpoint == CHECKPOINT
    assert again.fence == 2


def test_the_artifacts_of_a_retry_replace_the_first(world: World) -> None:
    attempt = world.attempt()
    lifecycle.finish(
        world.database, attempt, Status.FAILED, error={"detail": "x"}, artifacts=[FILE]
    )
    world.jobs.retry(attempt.job)
    again = world.attempt(attempt.job)
    newer = FILE.model_copy(update={"key": "jobs/x/a2/m"})
    lifecycle.finish(world.database, again, Status.SUCCEEDED, result={}, artifacts=[newer])
    assert world.jobs.artifacts(attempt.job) == [newer]


# --- lost workers ------------------------------------------------------------------------------
def test_a_lost_worker_s_job_is_queued_again(world: World) -> None:
    attempt = world.attempt(worker="host:1")
    world.lose_worker(attempt.job)
    assert lifecycle.reap(world.database) == (attempt.job,)
    row = world.row(attempt.job)
    assert (row.state, row.dispatched_at, row.lease_expires_at) == ("queued", None, None)
    last = events.after(world.database, attempt.job, 2)
    assert [event.kind for event in last] == ["queued"]
    assert last[0].data == {"reason": "Worker host:1 was lost.", "attempt": 1}


def test_a_living_worker_is_left_alone(world: World) -> None:
    attempt = world.attempt()
    assert lifecycle.reap(world.database) == ()
    assert world.row(attempt.job).state == "running"


def test_two_reapers_reap_once(world: World) -> None:
    attempt = world.attempt()
    world.lose_worker(attempt.job)
    barrier = threading.Barrier(4)

    def reap(_: int) -> tuple[str, ...]:
        barrier.wait()
        return lifecycle.reap(world.database)

    with ThreadPoolExecutor(4) as pool:
        assert sum(map(len, pool.map(reap, range(4)))) == 1
    assert world.events(attempt.job) == ["queued", "running", "queued"]


def test_after_the_last_attempt_the_job_fails_and_says_why(world: World) -> None:
    job = world.job()
    for number in range(1, world.settings.max_attempts + 1):
        attempt = world.attempt(job)
        assert attempt.fence == number
        lifecycle.report(world.database, attempt, Progress(phase="exporting", share=0.9))
        world.lose_worker(job)
        lifecycle.reap(world.database)
    error = world.jobs.get(job).error
    assert error is not None
    assert error.type == f"/problems/{AttemptsExhausted.slug}"
    assert "3 attempts" in error.detail
    assert "exporting" in error.detail
    assert world.events(job)[-1] == "failed"
    assert lifecycle.claim(world.database, job, "late", LEASE_SECONDS) is None


def test_a_cancelled_job_whose_worker_was_lost_is_cancelled(world: World) -> None:
    attempt = world.attempt()
    world.jobs.cancel(attempt.job)
    world.lose_worker(attempt.job)
    lifecycle.reap(world.database)
    assert world.jobs.get(attempt.job).status is Status.CANCELLED
    assert world.events(attempt.job)[-2:] == ["cancel_requested", "cancelled"]


# --- hand back ---------------------------------------------------------------------------------
def test_handing_back_costs_no_attempt(world: World) -> None:
    job = world.job()
    for _ in range(2 * world.settings.max_attempts):
        lifecycle.hand_back(world.database, world.attempt(job), "The worker shut down.")
    row = world.row(job)
    assert row.attempts_allowed - row.fence == world.settings.max_attempts
    assert row.state == "queued"


def test_a_cancelled_job_that_is_handed_back_is_cancelled(world: World) -> None:
    attempt = world.attempt()
    world.jobs.cancel(attempt.job)
    lifecycle.hand_back(world.database, attempt, "The worker shut down.")
    assert world.jobs.get(attempt.job).done
    assert world.events(attempt.job)[-1] == "cancelled"
    assert world.row(attempt.job).finished_at is not None


# --- time --------------------------------------------------------------------------------------
def test_the_seconds_of_all_attempts_add_up(world: World) -> None:
    job = world.job(time_limit_seconds=100)
    world.attempt(job)
    world.lose_worker(job)  # 10 s
    lifecycle.reap(world.database)
    attempt = world.attempt(job)
    assert attempt.seconds_used == pytest.approx(10, abs=0.5)
    world.change(job, attempt_started_at=func.clock() - 5)
    lifecycle.hand_back(world.database, attempt, "shutdown")
    attempt = world.attempt(job)
    assert attempt.seconds_used == pytest.approx(15, abs=0.5)
    assert attempt.time_limit_seconds == 100
    world.change(job, attempt_started_at=func.clock() - 7)
    lifecycle.finish(world.database, attempt, Status.FAILED, error={"detail": "x"})
    assert world.row(job).seconds_used == pytest.approx(22, abs=0.5)


def test_a_retry_gets_the_whole_time_again(world: World) -> None:
    attempt = world.attempt()
    world.change(attempt.job, attempt_started_at=func.clock() - 50)
    lifecycle.finish(world.database, attempt, Status.FAILED, error={"detail": "x"})
    world.jobs.retry(attempt.job)
    assert world.attempt(attempt.job).seconds_used == 0
