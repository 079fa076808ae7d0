"""What a row refers to stays, what none refers to goes, in a folder as in a bucket."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.adapters.database import (
    ArtifactRow,
    Database,
    DatasetRow,
    JobRow,
    ModelRow,
    SweepRow,
    UploadRow,
)
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.job import ArtifactFile, Attempt, Checkpoint, Status
from app.domain.ports import Store
from app.domain.upload import UploadState
from app.services import lifecycle, quotas, segments
from app.services.collecting import Collector
from app.services.resumable import Resumable
from app.services.sweeps import Sweeps
from tests.app.services.conftest import World, world_on

DAY = 86_400


@pytest.fixture
def database(sqlite_file: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copy(sqlite_file, tmp_path / "test.sqlite3")
    opened = Database(f"sqlite:///{tmp_path / 'test.sqlite3'}")
    yield opened
    opened.close()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return request.getfixturevalue("bucket")


@pytest.fixture
def world(database: Database, store: Any, queue: CeleryQueue, tmp_path: Path) -> World:
    """Every file is old enough at once."""
    return world_on(database, store, queue, tmp_path, blob_grace_seconds=0)


def collect(world: World, **settings: Any) -> set[str]:
    """The keys that are left."""
    changed = world.settings.model_copy(update=settings)
    Collector(world.database, world.store, changed).round()
    return keys(world.store)


def keys(store: Store) -> set[str]:
    return {stored.key for name in ("blobs", "jobs", "uploads") for stored in store.listed(name)}


def put(world: World, key: str) -> str:
    assert world.store.put_new(key, b"content of " + key.encode())
    return key


def publish(world: World, attempt: Attempt, *names: str) -> None:
    files = [
        ArtifactFile(
            name=name,
            key=f"jobs/{attempt.job}/a{attempt.fence}/{name}",
            bytes=1,
            sha256="0" * 64,
            media_type="text/plain",
        )
        for name in names
    ]
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, artifacts=files)


def checkpoint(world: World, attempt: Attempt, epoch: int, size: int = 5) -> str:
    key = put(world, f"jobs/{attempt.job}/a{attempt.fence}/checkpoint-{epoch}.zip")
    kept = Checkpoint(key=key, sha256="0" * 64, bytes=size, epoch=epoch)
    lifecycle.keep_checkpoint(world.database, attempt, kept)
    return key


# --- files -------------------------------------------------------------------------------------
def test_contents_of_models_and_data_sets_stay(world: World) -> None:
    used = {put(world, key) for key in ("blobs/aa/m", "blobs/bb/d")}
    put(world, "blobs/cc/nobodys")
    assert collect(world) == used


def test_young_files_stay(world: World) -> None:
    there = {put(world, key) for key in ("blobs/cc/x", "jobs/job_none/a1/x", "uploads/upl_none/0")}
    assert collect(world, blob_grace_seconds=3600) == there


def test_published_artifacts_stay_and_those_of_lost_attempts_go(world: World) -> None:
    first = world.attempt()
    put(world, f"jobs/{first.job}/a1/model.keras")
    world.lose_worker(first.job)
    second = world.attempt(first.job)
    published = {put(world, f"jobs/{first.job}/a2/{name}") for name in ("log.txt", "model.keras")}
    put(world, f"jobs/{first.job}/a2/unlisted.bin")
    publish(world, second, "log.txt", "model.keras")
    assert collect(world) == published


def test_what_a_running_attempt_has_written_stays(world: World) -> None:
    attempt = world.attempt()
    not_yet_published = put(world, f"jobs/{attempt.job}/a1/model.keras")
    assert collect(world) == {not_yet_published}


def test_the_checkpoint_to_go_on_from_stays(world: World) -> None:
    first = world.attempt()
    checkpoint(world, first, 1)
    newest = checkpoint(world, first, 2)
    world.lose_worker(first.job)
    second = world.attempt(first.job)
    assert second.checkpoint is not None
    assert collect(world) == {newest}
    lifecycle.finish(world.database, second, Status.FAILED, error={"detail": "No."})
    assert collect(world) == {newest}, "a retry goes on from it"
    publish(world, world.attempt(world.jobs.retry(first.job).id))
    assert collect(world) == set()


def test_files_of_deleted_jobs_go(world: World) -> None:
    put(world, "jobs/job_deleted/a1/model.keras")
    assert collect(world) == set()


def test_bytes_of_unfinished_uploads_stay_until_they_expire(world: World) -> None:
    upload = Resumable(world.uploads).begin("model", "m.keras", 10, None, "")
    segments.put(world.store, upload.id, 0, b"12345")
    put(world, "uploads/upl_gone/000000000000000")
    assert collect(world) == {f"uploads/{upload.id}/000000000000000"}
    with world.database.write() as session:
        session.execute(update(UploadRow).values(expires_at=func.clock() - 1))
    assert collect(world) == set()
    with world.database.read() as session:
        assert session.scalars(select(UploadRow)).all() == []


def test_an_upload_that_is_being_read_does_not_expire(world: World) -> None:
    upload = Resumable(world.uploads).begin("model", "m.keras", 5, None, "")
    segments.put(world.store, upload.id, 0, b"12345")
    with world.database.write() as session:
        session.execute(
            update(UploadRow).values(state=UploadState.PROCESSING, expires_at=func.clock() - 1)
        )
    assert len(collect(world)) == 1


def test_a_content_that_is_referred_to_while_it_is_swept_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is written between the look at the rows and the deletion."""
    key = put(world, "blobs/cc/late")
    delete_old = world.store.delete_old

    def late(swept: str, older: float) -> bool:
        with world.database.write() as session:
            session.get_one(ModelRow, "mdl_1").key = key
        return delete_old(swept, older)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "delete_old", late)
        left = collect(world)
    if not isinstance(world.store, FolderStore):
        assert left == {key}


# --- retention ---------------------------------------------------------------------------------
def age(world: World, kind: Any, days: float, column: str = "created_at") -> None:
    with world.database.write() as session:
        session.execute(update(kind).values({column: func.clock() - days * DAY}))


def there(world: World, kind: Any) -> list[str]:
    with world.database.read() as session:
        return list(session.scalars(select(kind.id)))


def test_by_default_everything_is_kept(world: World) -> None:
    publish(world, world.attempt())
    for kind in (ModelRow, DatasetRow):
        age(world, kind, 3650)
    age(world, JobRow, 3650, "finished_at")
    collect(world)
    assert there(world, ModelRow) == ["mdl_1"]
    assert len(there(world, JobRow)) == 1
    assert world.uploads.model("mdl_1").expires_at is None


def test_old_uploads_go_when_no_job_needs_them(world: World) -> None:
    job = world.job()
    for kind in (ModelRow, DatasetRow):
        age(world, kind, 8)
    collect(world, retention_days_uploads=7)
    assert there(world, ModelRow) == ["mdl_1"], "a queued job needs it"
    world.jobs.cancel(job)
    collect(world, retention_days_uploads=9)
    assert there(world, ModelRow) == ["mdl_1"]
    collect(world, retention_days_uploads=7)
    assert there(world, ModelRow) == there(world, DatasetRow) == []


def test_old_jobs_go_with_their_files_and_sweeps(world: World) -> None:
    attempt, waiting = world.attempt(), world.job()
    put(world, f"jobs/{attempt.job}/a1/log.txt")
    publish(world, attempt, "log.txt")
    with world.database.write() as session:
        session.add(SweepRow(id="swp_1", created_at=0.0, spec={}))
        session.execute(update(JobRow).values(sweep_id="swp_1"))
    age(world, JobRow, 8, "finished_at")
    world.change(waiting, finished_at=None)
    collect(world, retention_days_jobs=9)
    assert set(there(world, JobRow)) == {attempt.job, waiting}
    assert collect(world, retention_days_jobs=7) == set()
    assert there(world, JobRow) == [waiting]
    assert there(world, SweepRow) == ["swp_1"], "one of its jobs is there"
    world.jobs.cancel(waiting)
    age(world, JobRow, 8, "finished_at")
    collect(world, retention_days_jobs=7)
    assert there(world, JobRow) == there(world, SweepRow) == []
    with world.database.read() as session:
        assert session.scalars(select(ArtifactRow)).all() == []


def test_resources_say_when_they_go(database: Database, queue: CeleryQueue, tmp_path: Path) -> None:
    world = world_on(
        database,
        FolderStore(tmp_path / "store"),
        queue,
        tmp_path,
        retention_days_uploads=1.5,
        retention_days_jobs=30,
    )
    for shown in (world.uploads.model("mdl_1"), world.uploads.dataset("dts_1")):
        assert shown.expires_at is not None
        assert (shown.expires_at - shown.created_at).total_seconds() == 1.5 * DAY
    attempt, _ = world.attempt(), world.job()
    with world.database.write() as session:
        session.add(SweepRow(id="swp_1", created_at=0.0, spec={"name": None}))
        session.execute(update(JobRow).values(sweep_id="swp_1"))
    sweeps = Sweeps(world.jobs)
    assert world.jobs.get(attempt.job).expires_at is None
    assert sweeps.get("swp_1").expires_at is None
    publish(world, attempt)
    job = world.jobs.get(attempt.job)
    assert job.expires_at is not None
    assert job.finished_at is not None
    assert (job.expires_at - job.finished_at).days == 30
    assert sweeps.get("swp_1").expires_at == job.expires_at, "the first to go"


# --- quotas ------------------------------------------------------------------------------------
def test_checkpoints_and_unfinished_uploads_count(any_database_world: World) -> None:
    world = any_database_world

    def stored() -> int:
        with world.database.read() as session:
            return quotas.stored_bytes(session, "default")

    before = stored()
    attempt = world.attempt()
    checkpoint(world, attempt, 1, size=1000)
    assert stored() == before + 1000
    Resumable(world.uploads).begin("model", "m.keras", 77, None, "")
    assert stored() == before + 1077
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, result={})
    assert stored() == before + 77


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_world(
    request: pytest.FixtureRequest, queue: CeleryQueue, tmp_path: Path
) -> Iterator[World]:
    from tests.app.conftest import empty

    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_file"), tmp_path / "any.sqlite3")
        url = f"sqlite:///{tmp_path / 'any.sqlite3'}"
    else:
        url = request.getfixturevalue("postgres_url")
        empty(url)
    opened = Database(url)
    yield world_on(opened, FolderStore(tmp_path / "any"), queue, tmp_path)
    opened.close()
