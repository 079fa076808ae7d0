"""A broker may forget, repeat or be away: the row brings the job back."""

import base64
import json
import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import redis
from sqlalchemy import func, update

from app.adapters.database import Database, JobRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.errors import Unavailable
from app.domain.job import Status
from app.domain.model import ModelInfo
from app.services import lifecycle
from app.services.dispatch import ANSWER_KEPT_SECONDS, Marks, Reaper, dispatch
from tests.app.services.conftest import World, spec, world_on
from tests.servers import free_port


@pytest.fixture
def reaper(world: World) -> Reaper:
    return Reaper(world.database, world.store, world.queue, world.settings)


@pytest.fixture
def broken_queue() -> Iterator[CeleryQueue]:
    """Of a broker that nobody serves."""
    queue = CeleryQueue(f"redis://127.0.0.1:{free_port()}/0")
    yield queue
    queue.close()


def forget_dispatch(world: World) -> None:
    """All jobs were announced long ago."""
    with world.database.write() as session:
        session.execute(
            update(JobRow).values(
                dispatched_at=func.clock() - world.settings.redispatch_seconds - 1
            )
        )


def take(world: World, broker: "redis.Redis") -> None:
    """A worker takes one message, and dies before it claims."""
    assert broker.lpop("jobs") is not None


# --- announcing --------------------------------------------------------------------------------
def test_a_submitted_job_is_announced_once(world: World, reaper: Reaper) -> None:
    job = world.job()
    assert world.queue.depth("jobs") == 1
    assert world.row(job).dispatched_at is not None
    reaper.round()
    assert world.queue.depth("jobs") == 1


def unannounced(world: World) -> str:
    """A queued job that nobody knows of yet."""
    job = world.job()
    with world.database.write() as session:
        session.execute(update(JobRow).values(dispatched_at=None))
    return job


def test_marks_are_made_together_and_soon(world: World) -> None:
    job = unannounced(world)
    marks = Marks(world.database)
    dispatch(world.database, world.queue, "jobs", job, marks=marks)
    until = time.monotonic() + 10
    while world.row(job).dispatched_at is None:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_died_before_its_mark_is_announced_again(
    world: World, reaper: Reaper, broker: "redis.Redis"
) -> None:
    job = unannounced(world)
    marks = Marks(world.database)
    marks.flush = lambda: None  # type: ignore[method-assign]  # As if the process had died.
    dispatch(world.database, world.queue, "jobs", job, marks=marks)
    assert world.row(job).dispatched_at is None
    broker.delete("jobs")
    reaper.round()
    assert world.queue.depth("jobs") == 1
    assert world.row(job).dispatched_at is not None


def test_a_message_names_its_queue_and_no_more(world: World, broker: "redis.Redis") -> None:
    world.job()
    message = json.loads(broker.lindex("jobs", 0) or "")
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["jobs"], {})
    assert "mdl_1" not in str(message)


def test_a_job_is_accepted_while_the_broker_is_away(
    database: Database,
    store: FolderStore,
    broken_queue: CeleryQueue,
    queue: CeleryQueue,
    tmp_path: Any,
) -> None:
    world = world_on(database, store, broken_queue, tmp_path)
    answer = world.jobs.submit(spec())
    assert answer.status == 202
    row = world.row(answer.body["id"])
    assert (row.state, row.dispatched_at) == ("queued", None)
    Reaper(database, store, queue, world.settings).round()
    assert queue.depth("jobs") == 1


def test_a_reaper_without_a_broker_says_so(world: World, broken_queue: CeleryQueue) -> None:
    world.job()
    forget_dispatch(world)
    with pytest.raises(Unavailable):
        Reaper(world.database, world.store, broken_queue, world.settings).round()


def test_an_absent_broker_does_not_keep_leases_from_being_reaped(
    world: World, broken_queue: CeleryQueue
) -> None:
    attempt = world.attempt()
    world.lose_worker(attempt.job)
    with pytest.raises(Unavailable):
        Reaper(world.database, world.store, broken_queue, world.settings).round()
    assert world.row(attempt.job).state == "queued"


# --- the reaper --------------------------------------------------------------------------------
def test_a_flushed_broker_loses_no_job(world: World, reaper: Reaper, broker: "redis.Redis") -> None:
    jobs = [world.job() for _ in range(5)]
    broker.flushall()
    reaper.round()
    assert world.queue.depth("jobs") == 0, "announced a moment ago: not yet forgotten"
    forget_dispatch(world)
    reaper.round()
    assert world.queue.depth("jobs") == len(jobs)


def test_a_long_queue_does_not_grow_by_its_own_length(world: World, reaper: Reaper) -> None:
    for _ in range(10):
        world.job()
    for _ in range(20):
        forget_dispatch(world)
        reaper.round()
    assert world.queue.depth("jobs") == 10


def test_messages_taken_by_dying_workers_are_sent_again_until_all_jobs_ran(
    world: World, reaper: Reaper, broker: "redis.Redis"
) -> None:
    jobs = {world.job() for _ in range(4)}
    for _ in range(3):
        take(world, broker)
    ran: set[str] = set()
    for _ in range(20):
        forget_dispatch(world)
        reaper.round()
        assert world.queue.depth("jobs") <= 4
        while world.queue.depth("jobs"):
            broker.lpop("jobs")
            # Which job the message names does not matter to the count: claim the oldest.
            oldest = min(jobs - ran, default=None)
            if oldest and lifecycle.claim(world.database, oldest, "w", 60):
                ran.add(oldest)
    assert ran == jobs


def test_a_lost_job_is_announced_again(world: World, reaper: Reaper, broker: "redis.Redis") -> None:
    attempt = world.attempt()
    broker.flushall()
    world.lose_worker(attempt.job)
    reaper.round()
    assert world.row(attempt.job).state == "queued"
    assert world.queue.depth("jobs") == 1


def test_running_and_ended_jobs_are_not_announced(
    world: World, reaper: Reaper, broker: "redis.Redis"
) -> None:
    world.attempt()
    ended = world.attempt()
    lifecycle.finish(world.database, ended, Status.SUCCEEDED, result={})
    world.jobs.cancel(world.job())
    broker.flushall()
    forget_dispatch(world)
    reaper.round()
    assert world.queue.depth("jobs") == 0


def test_jobs_and_dry_runs_have_queues_of_their_own(world: World, broker: "redis.Redis") -> None:
    world.job()
    dispatch(world.database, world.queue, "quick", "pln_1")
    assert (broker.llen("jobs"), broker.llen("quick")) == (1, 1)


# --- housekeeping ------------------------------------------------------------------------------
def plan_rows(world: World) -> int:
    with world.database.read() as session:
        return session.query(JobRow).where(JobRow.kind == "plan").count()


def test_plans_are_forgotten_after_a_while(world: World, reaper: Reaper) -> None:
    id_ = world.jobs._begin_plan(spec())
    attempt = world.attempt(id_)
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={})
    reaper.round()
    assert plan_rows(world) == 1
    world.change(id_, updated_at=func.clock() - ANSWER_KEPT_SECONDS - 1)
    Reaper(world.database, world.store, world.queue, world.settings).round()
    assert plan_rows(world) == 0


def analysis_row(world: World, engine: str = "") -> str:
    """A succeeded analysis of long ago, with its page."""
    id_ = world.analyses._begin("mdl_1")
    result = {"engine": engine or version("secateur")}
    lifecycle.finish(world.database, world.attempt(id_), Status.SUCCEEDED, result=result)
    world.change(id_, updated_at=func.clock() - ANSWER_KEPT_SECONDS - 1)
    folder = world.store.root / "jobs" / id_
    folder.mkdir(parents=True)
    (folder / "analysis.html").write_text("x")
    return id_


def there(world: World, id_: str) -> tuple[bool, bool]:
    """Whether its row and its files are there."""
    with world.database.read() as session:
        return session.get(JobRow, id_) is not None, (world.store.root / "jobs" / id_).exists()


def test_an_analysis_stays_as_long_as_its_model(world: World, reaper: Reaper) -> None:
    id_ = analysis_row(world)
    reaper.round()
    assert there(world, id_) == (True, True)
    world.uploads.delete_model("mdl_1")
    Reaper(world.database, world.store, world.queue, world.settings).round()
    assert there(world, id_) == (False, False)


def test_another_engine_s_analysis_is_forgotten(world: World, reaper: Reaper) -> None:
    id_ = analysis_row(world, engine="0.0.0")
    reaper.round()
    assert there(world, id_) == (False, False)


def test_a_refused_analysis_is_forgotten(world: World, reaper: Reaper) -> None:
    id_ = world.analyses._begin("mdl_1")
    lifecycle.finish(world.database, world.attempt(id_), Status.FAILED, error={"detail": "No."})
    world.change(id_, updated_at=func.clock() - ANSWER_KEPT_SECONDS - 1)
    reaper.round()
    assert there(world, id_) == (False, False)


def test_kinds_that_share_a_queue_are_counted_together(
    world: World, reaper: Reaper, broker: "redis.Redis"
) -> None:
    world.jobs._begin_plan(spec())
    world.analyses._begin("mdl_1")
    broker.flushall()
    forget_dispatch(world)
    for _ in range(3):
        reaper.round()
        forget_dispatch(world)
    assert broker.llen("quick") == 2


def blob(store: FolderStore, content: bytes, age_seconds: float) -> str:
    writer = store.writer()
    writer.write(content)
    key = writer.commit().key
    at = time.time() - age_seconds
    os.utime(store.root / key, (at, at))
    return key


def refer(world: World, key: str) -> None:
    from app.adapters.database import ModelRow

    with world.database.write() as session:
        session.get_one(ModelRow, "mdl_1").key = key


@pytest.mark.parametrize(
    ("age_hours", "referred", "kept"),
    [(2, False, False), (2, True, True), (0.5, False, True), (0.5, True, True)],
)
def test_a_blob_is_swept_when_it_is_old_and_nobody_refers_to_it(
    world: World, reaper: Reaper, age_hours: float, referred: bool, kept: bool
) -> None:
    key = blob(world.store, b"content", age_hours * 3600)
    if referred:
        refer(world, key)
    reaper.round()
    assert (world.store.root / key).exists() == kept


def test_a_blob_that_is_uploaded_again_during_the_sweep_stays(world: World) -> None:
    key = blob(world.store, b"content", 7200)
    listed = list(world.store.content_keys(3600))
    blob(world.store, b"content", 0)
    assert listed == [key]
    assert world.store.delete_old(key, 3600) is False
    assert (world.store.root / key).read_bytes() == b"content"


def test_interrupted_writes_are_swept(world: World, reaper: Reaper) -> None:
    for name, age in (("old", 7200), ("young", 60)):
        path = world.store.root / "tmp" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    reaper.round()
    assert [path.name for path in (world.store.root / "tmp").iterdir()] == ["young"]


def test_the_model_s_resource_survives_the_database(world: World) -> None:
    # What was stored as JSON is read back as the same model.
    shown = world.uploads.model("mdl_1")
    assert ModelInfo.model_validate(shown.model_dump(by_alias=True)).layers == shown.layers


def test_after_the_database_was_away_workers_get_a_lease_to_come_back(
    world: World, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was away nobody could renew: a lease that ran out then says nothing."""
    now = [1000.0]
    monkeypatch.setattr("app.services.dispatch.time.monotonic", lambda: now[0])
    job = world.attempt().job
    reaper.round()
    now[0] += 2 * world.settings.lease_seconds
    world.lose_worker(job)
    for _ in range(3):
        reaper.round()
        now[0] += world.settings.lease_seconds / 3 - 0.1
        assert world.row(job).state == Status.RUNNING
    now[0] += 1
    reaper.round()
    assert world.row(job).state == Status.QUEUED


def test_a_new_reaper_does_not_wait(world: World, reaper: Reaper) -> None:
    job = world.attempt().job
    world.lose_worker(job)
    reaper.round()
    assert world.row(job).state == Status.QUEUED
