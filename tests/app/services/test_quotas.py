"""What one owner may have at once; nobody else notices."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.adapters.database import Database, ModelRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.errors import SecateurError, StorageFull, TooManyJobs
from app.domain.job import ArtifactFile, Status
from app.domain.people import Caller
from app.domain.spec import PruningSpec
from app.domain.sweep import SweepSpec, members
from app.services import lifecycle
from app.services.examples import MODEL_FILE
from app.services.sweeps import Sweeps
from tests.app.services.conftest import World, spec, world_on

MakeWorld = Callable[..., World]
ALICE = Caller(owner="alice")


@pytest.fixture
def make(
    database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path
) -> Callable[..., World]:
    return lambda **settings: world_on(database, store, queue, tmp_path, **settings)


def at_once(number: int, do: Callable[[int], Any]) -> list[Any]:
    """What each of so many threads, let go together, got or was refused with."""
    barrier = threading.Barrier(number)

    def one(index: int) -> Any:
        barrier.wait()
        try:
            return do(index)
        except SecateurError as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def sweep(world: World, jobs: int) -> None:
    base = spec(model="mdl_1").model_dump(mode="json")
    asked = SweepSpec(base=base, grid={"seed": tuple(range(jobs))})
    read = [(each, PruningSpec.model_validate(each.spec)) for each in members(asked)]
    Sweeps(world.jobs).submit(asked, read)


# --- jobs that wait ----------------------------------------------------------------------------
def test_only_so_many_jobs_wait(make: MakeWorld) -> None:
    world = make(quota_queued_jobs=2)
    first = world.job()
    world.job()
    with pytest.raises(TooManyJobs, match="2 jobs of yours wait") as refused:
        world.job()
    assert "SECATEUR_QUOTA_QUEUED_JOBS" in refused.value.detail
    world.jobs.cancel(first)
    world.job()
    with pytest.raises(TooManyJobs):
        world.jobs.retry(first)


def test_two_cannot_both_take_the_last_place(make: MakeWorld) -> None:
    world = make(quota_queued_jobs=3)
    got = at_once(8, lambda _: world.job())
    assert sum(isinstance(each, str) for each in got) == 3
    assert sum(isinstance(each, TooManyJobs) for each in got) == 5
    assert len(world.jobs.newest(50, None)) == 3


def test_a_sweep_takes_a_place_for_each_of_its_jobs(make: MakeWorld) -> None:
    world = make(quota_queued_jobs=3)
    with pytest.raises(TooManyJobs, match="would add 4"):
        sweep(world, 4)
    assert world.jobs.newest(50, None) == []
    sweep(world, 3)
    with pytest.raises(TooManyJobs):
        world.job()


def test_others_have_places_of_their_own(make: MakeWorld) -> None:
    world = make(quota_queued_jobs=1)
    world.job()
    with world.database.write() as session:
        session.execute(update(ModelRow).values(owner="alice"))
    alice = world.jobs.of(ALICE)
    assert alice.submit(spec(dataset=None)).status == 202
    with pytest.raises(TooManyJobs):
        alice.submit(spec(dataset=None))


def test_a_repeated_request_takes_no_further_place(make: MakeWorld) -> None:
    world = make(quota_queued_jobs=1)
    first = world.jobs.submit(spec(), "key")
    assert world.jobs.submit(spec(), "key").body["id"] == first.body["id"]


# --- jobs that run -----------------------------------------------------------------------------
def claim(world: World, job: str, worker: str = "one") -> Any:
    return lifecycle.claim(
        world.database, job, worker, 60, most_running=world.settings.quota_running_jobs
    )


def test_only_so_many_jobs_run(make: MakeWorld) -> None:
    world = make(quota_running_jobs=2)
    jobs = [world.job() for _ in range(3)]
    attempts = [claim(world, job) for job in jobs]
    assert [attempt is not None for attempt in attempts] == [True, True, False]
    assert world.row(jobs[2]).state == Status.QUEUED
    # Nobody announces what no worker would take, until there is a place again.
    assert lifecycle.undispatched(world.database, "jobs", 0.0, 2) == ()
    assert jobs[2] in lifecycle.undispatched(world.database, "jobs", 0.0)
    lifecycle.finish(world.database, attempts[0], Status.SUCCEEDED)
    assert lifecycle.undispatched(world.database, "jobs", -1.0, 2) == (jobs[2],)
    assert claim(world, jobs[2]) is not None


def test_two_workers_cannot_both_take_the_last_place(make: MakeWorld) -> None:
    world = make(quota_running_jobs=2)
    jobs = [world.job() for _ in range(6)]
    got = at_once(6, lambda index: claim(world, jobs[index], str(index)))
    assert sum(attempt is not None for attempt in got) == 2


def test_a_lost_job_is_taken_again_in_its_own_place(make: MakeWorld) -> None:
    world = make(quota_running_jobs=1)
    job = world.job()
    assert claim(world, job) is not None
    world.lose_worker(job)
    assert claim(world, job, "two") is not None


# --- bytes -------------------------------------------------------------------------------------
def upload(world: World, caller: Caller = ALICE) -> Any:
    writer = world.store.writer()
    try:
        writer.write(MODEL_FILE.read_bytes())
        return world.uploads.of(caller).add_model(writer, "m.keras", None)
    finally:
        writer.abort()


SIZE = MODEL_FILE.stat().st_size


def test_only_so_many_bytes_are_stored(make: MakeWorld) -> None:
    world = make(quota_stored_bytes=2 * SIZE)
    first = upload(world)
    assert world.uploads.of(ALICE).room() == SIZE
    upload(world)
    with pytest.raises(StorageFull, match="Delete") as refused:
        upload(world)
    assert f"{2 * SIZE:,} of the {2 * SIZE:,} bytes" in refused.value.detail
    with pytest.raises(StorageFull):
        world.uploads.of(ALICE).room()
    world.uploads.of(ALICE).delete_model(first.body["id"])
    upload(world)


def test_two_uploads_cannot_both_take_the_last_room(make: MakeWorld) -> None:
    world = make(quota_stored_bytes=2 * SIZE)
    got = at_once(5, lambda _: upload(world))
    assert sum(isinstance(each, StorageFull) for each in got) == 3
    assert len(world.uploads.of(ALICE).models(10, None)) == 2


def test_what_others_store_does_not_count(make: MakeWorld) -> None:
    world = make(quota_stored_bytes=SIZE)
    upload(world)
    assert upload(world, Caller(owner="bob")).status == 201


def test_results_count_and_a_full_store_takes_no_jobs(make: MakeWorld) -> None:
    world = make(quota_stored_bytes=100)  # The world's own two files have a byte each.
    job = world.job()
    file = ArtifactFile(name="log.txt", key="k", bytes=98, sha256="0" * 64, media_type="text/plain")
    lifecycle.finish(world.database, world.attempt(job), Status.SUCCEEDED, artifacts=[file])
    with pytest.raises(StorageFull):
        world.job()
    world.jobs.delete(job)
    world.job()
