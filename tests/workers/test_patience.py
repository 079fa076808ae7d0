"""A job outlives a store that is away, or slow, and keeps its lease meanwhile."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from app.adapters.database import JobRow
from app.adapters.store import FolderStore
from app.domain.errors import Unavailable
from app.domain.job import Status
from app.domain.ports import Blob
from app.services import lifecycle
from tests.workers.test_supervise import World


class Flaky(FolderStore):
    """Takes some time to copy a file in, and is away for a while."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.away_seconds = 0.0
        """From when it is first asked."""
        self._back = 0.0
        self.slow_seconds = 0.0
        self.asked = threading.Event()
        self.lease: Callable[[], float] = lambda: 0.0
        self.kept: list[bool] = []
        """Whether the job's lease was renewed while a file was copied in."""

    def put_file(self, key: str | None, source: Path, limit_bytes: int | None = None) -> Blob:
        if not self.asked.is_set():
            self.come_back_in(self.away_seconds)
        self.asked.set()
        if self.slow_seconds:
            before = self.lease()
            time.sleep(self.slow_seconds)
            self.kept.append(self.lease() > before)
        if time.monotonic() < self._back:
            raise Unavailable("The store does not answer.")
        return super().put_file(key, source, limit_bytes)

    def come_back_in(self, seconds: float) -> None:
        self._back = time.monotonic() + seconds


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the example model, to be copied: reading a model takes a process."""
    folder = tmp_path_factory.mktemp("prepared")
    World(folder).database.close()
    return folder


@pytest.fixture
def world(prepared: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(prepared, tmp_path / "data")
    made = World(tmp_path / "data")
    made.store = Flaky(made.settings.store_dir)
    yield made
    made.database.close()


def lease(world: World, job: str) -> float:
    with world.database.read() as session:
        return session.get_one(JobRow, job).lease_expires_at or 0.0


PROGRAM = """
    open(os.path.join(order["out"], "model.tflite"), "wb").write(b"smaller")
    tell(type="done", result=RESULT, files=["model.tflite"])
    """


def test_a_store_that_is_away_or_slow_costs_no_attempt(world: World) -> None:
    attempt = world.claim()
    world.store.away_seconds = 1.0
    world.store.slow_seconds = 0.4
    world.store.lease = lambda: lease(world, attempt.job)
    assert world.supervise(attempt, PROGRAM) is Status.SUCCEEDED
    job = world.jobs.get(attempt.job)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert {file.name for file in world.jobs.artifacts(attempt.job)} == {"model.tflite", "log.txt"}
    assert len(world.store.kept) >= 3
    assert all(world.store.kept)


def test_a_store_that_stays_away_costs_an_attempt_each_and_fails_the_job_at_the_last(
    world: World,
) -> None:
    world.settings = world.settings.model_copy(update={"store_patience_seconds": 0.5})
    world.store.away_seconds = 3600
    attempt = world.claim()
    for _ in range(world.settings.max_attempts - 1):
        assert world.supervise(attempt, PROGRAM) is None
        assert world.jobs.get(attempt.job).status is Status.QUEUED
        again = lifecycle.claim(world.database, attempt.job, "test", world.settings.lease_seconds)
        assert again is not None
        attempt = again
    assert world.supervise(attempt, PROGRAM) is None
    job = world.jobs.get(attempt.job)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.type.endswith("/unavailable")
    assert job.error.retryable
    assert world.jobs.artifacts(attempt.job) == []


@pytest.mark.parametrize("wish", ["cancel", "drain"])
def test_who_waits_for_the_store_still_listens(world: World, wish: str) -> None:
    attempt = world.claim()
    world.store.away_seconds = 3600

    def ask() -> None:
        world.store.asked.wait(10)
        if wish == "drain":
            world.draining = True
        else:
            world.jobs.cancel(attempt.job)
            world.store.come_back_in(0.2)  # Its log is published still.

    thread = threading.Thread(target=ask)
    thread.start()
    ended = world.supervise(attempt, PROGRAM)
    thread.join()
    assert ended is (Status.CANCELLED if wish == "cancel" else None)
    assert world.jobs.get(attempt.job).status == ("cancelled" if wish == "cancel" else "queued")


def test_a_checkpoint_is_left_out_while_the_store_is_away(world: World) -> None:
    attempt = world.claim()
    world.store.away_seconds = 0.5
    ended = world.supervise(
        attempt,
        """
        for epoch in (1, 2):
            open(os.path.join(order["scratch"], f"c{epoch}.zip"), "wb").write(b"state")
            tell(type="saved", file=f"c{epoch}.zip", epoch=epoch)
            time.sleep(0.8)
        os.kill(os.getpid(), 9)
        """,
    )
    assert ended is Status.FAILED
    with world.database.read() as session:
        checkpoint = session.get_one(JobRow, attempt.job).checkpoint
    assert checkpoint is not None
    assert checkpoint["epoch"] == 2


def test_a_lost_lease_ends_the_wait(world: World) -> None:
    attempt = world.claim()
    world.store.away_seconds = 3600
    with world.database.write() as session:
        session.execute(update(JobRow).values(fence=JobRow.fence + 1))
    assert world.supervise(attempt, PROGRAM) is None
