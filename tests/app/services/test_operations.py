"""What operators do to jobs, on both databases."""

import pytest
from sqlalchemy import func, select

from app.adapters.database import AuditRow
from app.adapters.store import FolderStore
from app.domain.errors import NotFound, WrongState
from app.domain.job import Status
from app.services import lifecycle, operations
from app.services.lifecycle import LeaseLost
from tests.app.services.conftest import World


def audited(world: World) -> list[tuple[str, str]]:
    with world.database.read() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.id)).all()
    return [(row.action, row.target) for row in rows if row.action.startswith("admin.")]


def stuck(world: World) -> dict[str, str | None]:
    return {job.id: job.stuck for job in operations.unfinished(world.database)}


# --- jobs --------------------------------------------------------------------------------------
def test_jobs_that_go_their_way_are_not_stuck(world: World) -> None:
    queued, running = world.job(), world.attempt().job
    done = world.attempt()
    lifecycle.finish(world.database, done, Status.SUCCEEDED)
    assert stuck(world) == {queued: None, running: None}
    assert operations.unfinished(world.database, stuck_only=True) == []
    first, second = operations.unfinished(world.database)
    assert (first.id, first.worker, first.attempt) == (queued, None, 0)
    assert (second.worker, second.attempt, second.attempts_allowed) == ("one", 1, 3)
    assert second.age_seconds == pytest.approx(0, abs=10)


def test_each_way_to_be_stuck_is_found_with_its_reason(world: World) -> None:
    lost, silent, forgotten = world.attempt().job, world.attempt().job, world.job()
    fine = world.job()
    world.lose_worker(lost)
    world.change(silent, updated_at=func.clock() - 1000)
    world.change(forgotten, dispatched_at=None, updated_at=func.clock() - 90)
    found = {job.id: job for job in operations.unfinished(world.database, stuck_only=True)}
    assert set(found) == {lost, silent, forgotten}
    assert "lease ran out" in str(found[lost].stuck)
    assert "told nothing for 17 minutes" in str(found[silent].stuck)
    assert "does a reaper run" in str(found[forgotten].stuck)
    assert stuck(world)[fine] is None


# --- requeue -----------------------------------------------------------------------------------
def test_a_running_job_is_taken_from_its_worker(world: World) -> None:
    attempt = world.attempt()
    said = operations.requeue(world.database, world.settings, attempt.job)
    assert said.endswith("was running, and is queued.")
    with pytest.raises(LeaseLost):
        lifecycle.heartbeat(world.database, attempt, 60)
    with pytest.raises(LeaseLost):
        lifecycle.finish(world.database, attempt, Status.SUCCEEDED)
    row = world.row(attempt.job)
    assert (row.state, row.dispatched_at, row.lease_expires_at) == ("queued", None, None)
    assert row.attempts_allowed - row.fence == world.settings.max_attempts
    assert world.events(attempt.job) == ["queued", "running", "queued"]
    assert audited(world) == [("admin.requeue", attempt.job)]
    assert world.attempt(attempt.job).fence == 2


@pytest.mark.parametrize("end", [Status.FAILED, Status.CANCELLED])
def test_an_ended_job_starts_again(world: World, end: Status) -> None:
    attempt = world.attempt()
    lifecycle.finish(world.database, attempt, end, error={"type": "/problems/crashed"})
    operations.requeue(world.database, world.settings, attempt.job)
    row = world.row(attempt.job)
    assert (row.state, row.error, row.finished_at, row.seconds_used) == ("queued", None, None, 0)
    assert world.attempt(attempt.job).fence == 2


def test_a_cancelled_queued_job_can_be_claimed_after_it(world: World) -> None:
    job = world.job()
    world.jobs.cancel(job)
    operations.requeue(world.database, world.settings, job)
    assert world.attempt(job).fence == 1


def test_a_queued_job_is_announced_again(world: World) -> None:
    job = world.job()
    operations.requeue(world.database, world.settings, job)
    assert job in lifecycle.undispatched(world.database, "jobs", 1000)


def test_a_job_that_is_being_cancelled_is_not_run_again(world: World) -> None:
    attempt = world.attempt()
    world.jobs.cancel(attempt.job)
    assert "cancelled now" in operations.requeue(world.database, world.settings, attempt.job)
    assert world.row(attempt.job).state == "cancelled"
    assert world.events(attempt.job)[-1] == "cancelled"


def test_a_result_is_never_thrown_away(world: World) -> None:
    attempt = world.attempt()
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED)
    with pytest.raises(WrongState, match="has succeeded"):
        operations.requeue(world.database, world.settings, attempt.job)
    with pytest.raises(WrongState, match="already succeeded"):
        operations.cancel(world.database, attempt.job)
    assert audited(world) == []


# --- cancel ------------------------------------------------------------------------------------
def test_jobs_of_anybody_are_cancelled(world: World) -> None:
    queued, running = world.job(), world.attempt()
    world.change(queued, owner="alice")
    assert operations.cancel(world.database, queued).endswith("is cancelled.")
    assert "asked to stop" in operations.cancel(world.database, running.job)
    assert world.row(queued).state == "cancelled"
    assert lifecycle.heartbeat(world.database, running, 60) is True
    assert audited(world) == [("admin.cancel", queued), ("admin.cancel", running.job)]


def test_unknown_jobs_are_said_to_be_so(world: World) -> None:
    with pytest.raises(NotFound, match="no job 'job_x'"):
        operations.cancel(world.database, "job_x")
    with pytest.raises(NotFound, match="admin jobs"):
        operations.requeue(world.database, world.settings, "job_x")


# --- gc ----------------------------------------------------------------------------------------
def test_only_what_no_row_names_is_collected(world: World, store: FolderStore) -> None:
    keys = []
    for content in (b"used", b"unused"):
        writer = store.writer()
        writer.write(content)
        keys.append(writer.commit().key)
    with world.database.write() as session:
        from app.adapters.database import ModelRow

        session.get_one(ModelRow, "mdl_1").key = keys[0]
    now = world.settings.model_copy(update={"blob_grace_seconds": -1.0})
    assert list(operations.garbage(world.database, store, world.settings)) == []
    assert list(operations.garbage(world.database, store, now)) == [keys[1]]
    assert (store.root / keys[1]).exists()
    assert operations.collect(world.database, store, now) == [keys[1]]
    assert (store.root / keys[0]).exists()
    assert not (store.root / keys[1]).exists()
    assert audited(world) == [("admin.gc", "store")]
    assert operations.collect(world.database, store, now) == []
    assert len(audited(world)) == 1
