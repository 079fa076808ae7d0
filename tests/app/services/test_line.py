"""Whose turn it is, on both databases; what people are told of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, text, update

from app.adapters.database import Database, JobRow, ModelRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.confinement import Confinement
from app.domain.errors import InvalidSpec, QueuesFull
from app.domain.job import Attempt, Status
from app.domain.people import Caller
from app.domain.queues import QueueName
from app.domain.sweep import SweepSpec, members
from app.services import lifecycle, workers
from app.services.dispatch import Reaper
from app.services.line import Line, heads_query, queue_state
from app.services.sweeps import Sweeps
from tests.app.services.conftest import World, spec, world_on

GIB = 1024**3
OWNERS = ("alice", "bob", "carol", "dave")
GPU = {"accelerator": "gpu"}
LARGE = {"memory_bytes": 32 * GIB}


@pytest.fixture
def make(
    database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path
) -> Callable[..., World]:
    def made(**settings: Any) -> World:
        world = world_on(database, store, queue, tmp_path, **settings)
        with database.write() as session:
            for owner in OWNERS:
                session.execute(
                    insert(ModelRow).from_select(
                        [column.name for column in ModelRow.__table__.columns],
                        _as(owner),
                    )
                )
        return world

    return made


def _as(owner: str) -> Any:
    """The model's row as another owner's."""
    from sqlalchemy import literal, select

    own = {"id": literal(f"mdl_{owner}"), "owner": literal(owner)}
    return select(*(own.get(c.name, c) for c in ModelRow.__table__.columns)).where(
        ModelRow.id == "mdl_1"
    )


def submit(world: World, owner: str, **parts: Any) -> str:
    asked = spec(model=f"mdl_{owner}", dataset=None, **parts)
    return str(world.jobs.of(Caller(owner=owner)).submit(asked).body["id"])


def take(
    world: World,
    queue: QueueName = "jobs",
    memory_bytes: int = 8 * GIB,
    most_running: int | None = None,
) -> Attempt | None:
    return lifecycle.claim_next(
        world.database,
        queue,
        "w",
        60.0,
        memory_bytes=memory_bytes,
        priority_seconds=world.settings.priority_seconds,
        most_running=most_running,
    )


def owner_of(world: World, attempt: Attempt | None) -> str:
    assert attempt is not None
    return world.row(attempt.job).owner


def end(world: World, attempt: Attempt | None) -> None:
    assert attempt is not None
    lifecycle.finish(world.database, attempt, Status.FAILED, error={"detail": "x"})


# --- by need -----------------------------------------------------------------------------------
def test_only_those_who_serve_a_queue_take_its_jobs(make: Callable[..., World]) -> None:
    world = make()
    gpu = submit(world, "alice", resources=GPU)
    large = submit(world, "alice", resources=LARGE)
    assert take(world) is None
    assert take(world, "large") is None, "too little memory"
    assert world.queue.depth("gpu") == world.queue.depth("large") == 1
    assert [got.job for got in (take(world, "gpu"),) if got] == [gpu]
    assert [got.job for got in (take(world, "large", 32 * GIB),) if got] == [large]


def test_a_gpu_worker_leaves_a_job_that_needs_more_memory(make: Callable[..., World]) -> None:
    world = make()
    submit(world, "alice", resources=GPU | LARGE)
    second = submit(world, "alice", resources=GPU)
    got = take(world, "gpu")
    assert got is not None
    assert got.job == second


def test_a_lost_job_returns_to_its_queue(make: Callable[..., World]) -> None:
    world = make()
    job = submit(world, "alice", resources=GPU)
    assert take(world, "gpu") is not None
    world.lose_worker(job)
    Reaper(world.database, world.store, world.queue, world.settings).round()
    assert world.row(job).state == "queued"
    assert take(world) is None
    assert take(world, "gpu") is not None


def test_a_job_that_nobody_serves_says_so_and_waits(make: Callable[..., World]) -> None:
    world = make()
    alice = world.jobs.of(Caller(owner="alice"))
    workers.report(world.database, "cpu", Confinement(), ("jobs", "quick"), 8 * GIB)
    ordinary = submit(world, "alice")
    gpu = submit(world, "alice", resources=GPU)
    assert alice.get(ordinary).waiting_reason is None
    assert alice.get(gpu).waiting_reason == (
        "No worker that is alive takes jobs that need a GPU. The job waits until one is started: "
        "secateur worker --queue gpu"
    )
    assert alice.get(gpu).queue == "gpu"
    workers.report(world.database, "gpu", Confinement(), ("gpu",), 8 * GIB)
    again = world_line(alice)
    assert again.get(gpu).waiting_reason is None
    big = submit(world, "alice", resources=GPU | LARGE)
    reason = world_line(alice).get(big).waiting_reason
    assert reason is not None
    assert "34,359,738,368 bytes of memory" in reason
    take(world)
    assert alice.get(ordinary).waiting_reason is None


def world_line(jobs: Any) -> Any:
    """The same with figures of this moment."""
    jobs.line = Line(jobs.settings)
    return jobs


# --- fairness ----------------------------------------------------------------------------------
def test_a_flood_delays_nobody_else_by_more_than_a_turn(make: Callable[..., World]) -> None:
    world = make()
    for _ in range(20):
        submit(world, "alice")
    for owner in ("bob", "bob", "carol"):
        submit(world, owner)
    started = []
    for _ in range(7):  # one worker: nothing runs when it asks
        attempt = take(world)
        started.append(owner_of(world, attempt))
        end(world, attempt)
    assert started[0] == "alice"
    assert sorted(started[1:3]) == ["bob", "carol"]
    assert sorted(started[3:5]) == ["alice", "bob"]
    assert started[5:] == ["alice", "alice"]


def test_who_has_fewest_running_goes_first(make: Callable[..., World]) -> None:
    world = make()
    for owner in ("alice",) * 9 + ("bob",) * 2 + ("carol",):
        submit(world, owner)
    started = [owner_of(world, take(world)) for _ in range(6)]
    assert Counter(started) == {"alice": 3, "bob": 2, "carol": 1}


def test_priority_goes_before_age_but_not_for_ever(make: Callable[..., World]) -> None:
    world = make(priority_seconds=60)
    low = submit(world, "alice", priority=-1)
    plain = submit(world, "alice")
    high = submit(world, "bob", priority=2)
    assert [got.job for got in (take(world), take(world)) if got] == [high, plain]
    for _ in range(3):
        submit(world, "bob", priority=2)
    # Four steps of waiting raise -1 above 2.
    world.change(low, queued_at=func.clock() - 241)
    with world.database.write() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.owner == "alice")
            .values(attempt_started_at=JobRow.attempt_started_at - 241)
        )
    got = take(world)
    assert got is not None
    assert got.job == low


def test_an_owner_at_the_limit_is_passed_over(make: Callable[..., World]) -> None:
    world = make()
    for owner in ("alice", "alice", "alice", "bob"):
        submit(world, owner)
    started = [take(world, most_running=1) for _ in range(3)]
    assert [owner_of(world, got) for got in started[:2]] == ["alice", "bob"]
    assert started[2] is None
    end(world, started[0])
    assert owner_of(world, take(world, most_running=1)) == "alice"


def test_too_high_a_priority_is_refused(make: Callable[..., World]) -> None:
    world = make(highest_priority=3)
    submit(world, "alice", priority=3)
    with pytest.raises(InvalidSpec, match="at most 3") as refused:
        submit(world, "alice", priority=4)
    assert refused.value.field == "priority"


def test_many_workers_take_every_job_once(make: Callable[..., World]) -> None:
    world = make()
    jobs = [submit(world, owner) for owner in ("alice", "bob", "carol") for _ in range(4)]
    barrier = threading.Barrier(6)

    def work(_: int) -> list[str]:
        barrier.wait()
        got = []
        while attempt := take(world, most_running=100):
            got.append(attempt.job)
        return got

    with ThreadPoolExecutor(6) as pool:
        taken = [job for each in pool.map(work, range(6)) for job in each]
    assert sorted(taken) == sorted(jobs)


def test_two_workers_cannot_both_start_the_last_job_that_an_owner_may_run(
    make: Callable[..., World],
) -> None:
    world = make()
    for _ in range(6):
        submit(world, "alice")
    barrier = threading.Barrier(6)

    def work(_: int) -> bool:
        barrier.wait()
        return take(world, most_running=2) is not None

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 2


# --- what people are told ----------------------------------------------------------------------
def test_positions_follow_the_order_of_starts(make: Callable[..., World]) -> None:
    world = make()
    jobs = [(owner, submit(world, owner)) for owner in ("alice",) * 5 + ("bob", "carol", "bob")]
    jobs.append(("dave", submit(world, "dave", priority=1)))
    told = {
        job: world_line(world.jobs.of(Caller(owner=owner))).get(job).queue_position
        for owner, job in jobs
    }
    started = []
    while attempt := take(world):
        started.append(attempt.job)
        end(world, attempt)
    assert [told[job] for job in started] == list(range(len(jobs)))


def test_a_sweep_s_jobs_wait_where_each_belongs(make: Callable[..., World]) -> None:
    world = make()
    base = spec(model="mdl_1").model_dump(mode="json")
    asked = SweepSpec(base=base, grid={"resources": ({}, GPU)})
    read = [(each, spec(**each.varied)) for each in members(asked)]
    Sweeps(world.jobs).submit(asked, read)
    assert (world.queue.depth("jobs"), world.queue.depth("gpu")) == (1, 1)


def test_the_state_of_the_queues(make: Callable[..., World]) -> None:
    world = make()
    old = submit(world, "alice")
    submit(world, "bob")
    submit(world, "bob", resources=GPU)
    world.change(old, queued_at=func.clock() - 90)
    assert take(world, "gpu") is not None
    workers.report(world.database, "one", Confinement(), ("jobs", "gpu"), 8 * GIB)
    workers.report(world.database, "two", Confinement(), ("jobs",), 8 * GIB)
    told = {one.queue: one for one in queue_state(world.database)}
    assert told["jobs"].oldest_seconds == pytest.approx(90, abs=2)
    assert {name: (q.waiting, q.running, q.workers) for name, q in told.items()} == {
        "jobs": (2, 0, 2),
        "quick": (0, 0, 0),
        "gpu": (0, 1, 1),
        "large": (0, 0, 0),
    }


# --- backpressure ------------------------------------------------------------------------------
def test_a_full_service_refuses_everybody_and_keeps_what_it_has(
    make: Callable[..., World],
) -> None:
    world = make(queued_jobs_limit=3)
    first = submit(world, "alice")
    for _ in range(2):
        submit(world, "alice")
    with pytest.raises(QueuesFull, match="at most 3") as refused:
        submit(world, "bob")
    assert refused.value.retry_after_seconds
    assert world.jobs.of(Caller(owner="bob")).newest(10, None) == []
    assert world.queue.depth("jobs") == 3
    world.jobs.of(Caller(owner="alice")).cancel(first)
    world_line(world.jobs)
    assert world.row(submit(world, "bob")).state == "queued"


# --- what it costs -----------------------------------------------------------------------------
@pytest.mark.parametrize("owners", [2])
def test_a_claim_walks_the_index(make: Callable[..., World], owners: int) -> None:
    """5,000 jobs, most of them waiting: every table is reached by an index, and it is quick."""
    world = make()
    _many(world, 5_000, owners)
    query = heads_query("jobs", 8 * GIB)
    with world.database.read() as session:
        sqlite = session.get_bind().dialect.name == "sqlite"
        if not sqlite:
            session.execute(text("ANALYZE jobs"))
        compiled = str(query.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
        said = session.execute(text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{compiled}"))
        plan = "\n".join(str(row[-1]) for row in said)
    assert "ix_jobs_line" in plan, plan
    assert "ix_jobs_served" in plan, plan
    assert "Seq Scan on jobs" not in plan, plan
    assert "SCAN jobs" not in plan, plan
    began = time.perf_counter()
    for _ in range(10):
        assert take(world) is not None
    assert (time.perf_counter() - began) / 10 < 0.5


def _many(world: World, count: int, owners: int) -> None:
    spec_ = spec().model_dump(mode="json")
    rows = [
        {
            "id": f"job_{n:08}",
            "owner": f"owner-{n % owners}",
            "kind": "prune",
            "state": "queued" if n % 5 else "succeeded",
            "created_at": float(n),
            "updated_at": float(n),
            "queued_at": float(n),
            "rank": float(n),
            "spec": spec_,
            "model_id": "mdl_1",
            "attempts_allowed": 3,
            "time_limit_seconds": 60.0,
        }
        for n in range(count)
    ]
    with world.database.write() as session:
        session.execute(insert(JobRow), rows)
