"""What may be done with a job in which state."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from anyio import to_thread
from sqlalchemy import func, select

from app.adapters.database import Database, EventRow, JobRow, ModelRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.errors import (
    DatasetMismatch,
    EngineRefusal,
    InvalidSpec,
    NotFound,
    Unavailable,
    WrongState,
)
from app.domain.job import ArtifactFile, Attempt, Status
from app.domain.metrics import Plan
from app.services import lifecycle
from app.services.dispatch import Reaper
from tests.app.services.conftest import World, spec, world_on


def queued(world: World) -> str:
    return world.job()


def running(world: World) -> str:
    return world.attempt().job


def succeeded(world: World) -> str:
    attempt = world.attempt()
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED)
    return attempt.job


def failed(world: World) -> str:
    attempt = world.attempt()
    error = EngineRefusal("It cannot be done.").as_problem()
    lifecycle.finish(world.database, attempt, Status.FAILED, error=error)
    return attempt.job


def cancelled(world: World) -> str:
    job = world.job()
    world.jobs.cancel(job)
    return job


State = Callable[[World], str]


# --- the table ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "status", "asked"),
    [(queued, "cancelled", True), (running, "running", True), (cancelled, "cancelled", True)],
)
def test_cancel(world: World, state: State, status: str, asked: bool) -> None:
    job = state(world)
    for _ in range(2):
        resource = world.jobs.cancel(job)
        assert (resource.status, resource.cancel_requested) == (status, asked)
    assert world.events(job).count("cancelled") + world.events(job).count("cancel_requested") == 1


@pytest.mark.parametrize("state", [succeeded, failed])
def test_an_ended_job_cannot_be_cancelled(world: World, state: State) -> None:
    with pytest.raises(WrongState):
        world.jobs.cancel(state(world))


@pytest.mark.parametrize("state", [failed, cancelled])
def test_retry(world: World, state: State) -> None:
    job = state(world)
    resource = world.jobs.retry(job)
    assert (resource.status, resource.error, resource.finished_at) == ("queued", None, None)
    assert not resource.cancel_requested
    assert world.events(job)[-1] == "queued"
    row = world.row(job)
    assert row.attempts_allowed == row.fence + world.settings.max_attempts
    assert world.attempt(job).fence == row.fence + 1


@pytest.mark.parametrize("state", [queued, running])
def test_retry_of_an_unfinished_job_changes_nothing(world: World, state: State) -> None:
    job = state(world)
    before = world.events(job)
    assert not world.jobs.retry(job).done
    assert world.events(job) == before


def test_a_succeeded_job_cannot_be_retried(world: World) -> None:
    with pytest.raises(WrongState, match="new job"):
        world.jobs.retry(succeeded(world))


def test_a_retry_without_its_model_names_the_field(world: World) -> None:
    job = failed(world)
    world.uploads.delete_model("mdl_1")
    with pytest.raises(InvalidSpec) as caught:
        world.jobs.retry(job)
    assert caught.value.field == "model"
    assert world.jobs.get(job).status is Status.FAILED


@pytest.mark.parametrize("state", [succeeded, failed, cancelled])
def test_delete(world: World, state: State) -> None:
    job = state(world)
    folder = world.store.root / "jobs" / job / "a1"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("x")
    world.jobs.delete(job)
    assert not folder.parent.exists()
    with pytest.raises(NotFound):
        world.jobs.get(job)
    with world.database.read() as session:
        left = session.scalar(
            select(func.count()).select_from(EventRow).where(EventRow.job_id == job)
        )
    assert left == 0


@pytest.mark.parametrize("state", [queued, running])
def test_an_unfinished_job_cannot_be_deleted(world: World, state: State) -> None:
    job = state(world)
    with pytest.raises(WrongState):
        world.jobs.delete(job)
    assert not world.jobs.get(job).done


@pytest.mark.parametrize("act", ["get", "cancel", "retry", "delete", "artifacts"])
def test_an_unknown_job_is_not_found(world: World, act: str) -> None:
    with pytest.raises(NotFound, match="job_none"):
        getattr(world.jobs, act)("job_none")


# --- submit ------------------------------------------------------------------------------------
def test_a_fresh_job(world: World) -> None:
    answer = world.jobs.submit(spec(time_limit_seconds=60))
    body = answer.body
    assert (answer.status, answer.location) == (202, f"/v1/jobs/{body['id']}")
    assert (body["status"], body["done"], body["attempt"]) == ("queued", False, 0)
    assert (body["metrics"], body["error"], body["progress"]) == (None, None, None)
    assert body["spec"]["time_limit_seconds"] == 60


def test_the_position_in_the_queue(world: World) -> None:
    # Ids sort by the millisecond: of one millisecond, the order is chance.
    jobs = []
    for _ in range(3):
        jobs.append(world.job())
        time.sleep(0.002)
    assert [world.jobs.get(job).queue_position for job in jobs] == [0, 1, 2]
    world.attempt(jobs[0])
    assert [world.jobs.get(job).queue_position for job in jobs] == [None, 0, 1]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"model": "mdl_none"}, "model"),
        ({"dataset": "dts_none"}, "dataset"),
        ({"time_limit_seconds": 10**9}, "time_limit_seconds"),
    ],
)
def test_what_is_not_there_is_named(world: World, parts: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        world.jobs.submit(spec(**parts))
    assert caught.value.field == field


def test_a_pattern_that_matches_no_layer_is_named(world: World) -> None:
    prune = {
        "target": {"kind": "fraction", "remove": 0.5},
        "layers": [{"match": "dig*", "skip": True}, {"match": "conv_*", "skip": True}],
    }
    with pytest.raises(InvalidSpec, match="digit") as caught:
        world.jobs.submit(spec(prune=prune))
    assert caught.value.field == "prune.layers.1.match"


def test_a_pattern_may_name_a_layer_inside_another(world: World) -> None:
    with world.database.write() as session:
        row = session.get_one(ModelRow, "mdl_1")
        row.info = row.info | {"inner_layers": ["encoder/dense"]}
    overrides = [{"match": "encoder/*", "skip": True}]
    job = world.job(prune={"target": {"kind": "fraction", "remove": 0.5}, "layers": overrides})
    assert world.jobs.get(job).status == "queued"


@pytest.mark.parametrize("pattern", ["[", "[[a]", "[!]", "[]-a]", "*" * 200, "a*" * 100, "[--a]"])
def test_no_pattern_is_too_strange(world: World, pattern: str) -> None:
    prune = {
        "target": {"kind": "fraction", "remove": 0.5},
        "layers": [{"match": pattern, "skip": True}],
    }
    started = time.monotonic()
    with suppress(InvalidSpec):
        world.jobs.submit(spec(prune=prune))
    assert time.monotonic() - started < 1


def test_data_that_does_not_fit_is_refused(world: World) -> None:
    with world.database.write() as session:
        model = session.get_one(ModelRow, "mdl_1")
        wide = {"name": "pixels", "shape": [None, 65], "dtype": "float32"}
        model.info = {**model.info, "inputs": [wide]}
    with pytest.raises(DatasetMismatch, match="65"):
        world.jobs.submit(spec())
    with world.database.read() as session:
        assert session.scalar(select(func.count()).select_from(JobRow)) == 0


def test_a_job_without_data_is_accepted(world: World) -> None:
    assert world.jobs.submit(spec(dataset=None)).body["spec"]["fine_tune"] is None


# --- list and artifacts ------------------------------------------------------------------------
def test_filters(world: World) -> None:
    one, two, three = queued(world), running(world), failed(world)
    assert {job.id for job in world.jobs.newest(10, None)} == {one, two, three}
    assert [job.id for job in world.jobs.newest(10, None, Status.RUNNING)] == [two]
    assert world.jobs.newest(10, None, model="mdl_other") == []
    assert len(world.jobs.newest(10, None, dataset="dts_1")) == 3


def test_an_artifact_that_is_not_there_says_what_is(world: World) -> None:
    attempt = world.attempt()
    with pytest.raises(NotFound, match="running"):
        world.jobs.artifact(attempt.job, "model.keras")
    file = ArtifactFile(name="log.txt", key="k", bytes=1, sha256="a" * 64, media_type="text/plain")
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, artifacts=[file])
    with pytest.raises(NotFound, match=r"It has: log\.txt"):
        world.jobs.artifact(attempt.job, "model.h5")
    assert world.jobs.artifact(attempt.job, "log.txt") == file


def test_a_dry_run_is_no_job(world: World) -> None:
    id_ = world.jobs._begin_plan(spec())
    assert world.jobs.newest(10, None) == []
    with pytest.raises(NotFound):
        world.jobs.get(id_)


# --- dry run -----------------------------------------------------------------------------------
def worker(world: World, act: Callable[[Attempt], None]) -> None:
    """Carry out the only plan as soon as it is there."""
    for _ in range(200):
        with world.database.read() as session:
            id_ = session.scalar(select(JobRow.id).where(JobRow.kind == "plan"))
        if id_ is not None:
            act(world.attempt(id_))
            return
        time.sleep(0.01)


SIZE = {"parameters": 1, "nonzero_parameters": 1, "macs": 1, "bytes": 4}
PLAN = {"granularity": "channel", "before": SIZE, "after": SIZE, "layers": []}


def plan(world: World, act: Callable[[Attempt], None]) -> Plan:
    async def both() -> Plan:
        working = asyncio.create_task(asyncio.to_thread(worker, world, act))
        try:
            return await world.jobs.plan(spec())
        finally:
            await working

    return asyncio.run(both())


def test_a_plan_is_what_the_worker_answers(world: World) -> None:
    made = plan(
        world,
        lambda attempt: lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result=PLAN),
    )
    assert made.model_copy(update={"waiting_reason": None}) == Plan.model_validate(PLAN)
    assert made.waiting_reason is not None
    assert "No worker that is alive takes jobs that need nothing special" in made.waiting_reason


def test_what_the_worker_refuses_is_refused(world: World) -> None:
    error = EngineRefusal("It cannot be done.", field="prune").as_problem()
    with pytest.raises(EngineRefusal, match="cannot be done") as caught:
        plan(
            world,
            lambda attempt: lifecycle.finish(world.database, attempt, Status.FAILED, error=error),
        )
    assert caught.value.field == "prune"


def test_a_plan_that_nobody_made_blocks_nothing(
    database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path
) -> None:
    world = world_on(database, store, queue, tmp_path, plan_timeout_seconds=0.1)
    with pytest.raises(Unavailable, match="No worker"):
        asyncio.run(world.jobs.plan(spec()))
    world.uploads.delete_model("mdl_1")
    depth = queue.depth("quick")
    with world.database.read() as session:
        assert session.scalars(select(JobRow.state)).all() == ["cancelled"]
    Reaper(database, store, queue, world.settings).round()
    assert queue.depth("quick") == depth


def test_many_waiting_plans_leave_threads_for_others(
    database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path
) -> None:
    world = world_on(database, store, queue, tmp_path, plan_timeout_seconds=3.0)

    async def crowd() -> int:
        plans = [asyncio.create_task(world.jobs.plan(spec())) for _ in range(60)]
        await asyncio.sleep(0.3)
        await to_thread.run_sync(lambda: None)
        ended = sum(plan.done() for plan in plans)
        await asyncio.gather(*plans, return_exceptions=True)
        return ended

    assert asyncio.run(crowd()) == 0, "a thread was free only when a plan had ended"
