"""Backups of the embedded default: SQLite's file and the store's, consistent with each other.

The service goes on meanwhile. SQLite copies one state of its file; then what that state refers to
is copied from the store, whose files never change, each against its hash. What was deleted between
the two is gone, and so is, in a newer state, the row that named it: so the file is copied again
until nothing is missing.
"""

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import delete, select

from app.adapters.database import (
    ArtifactRow,
    Database,
    DatasetRow,
    JobRow,
    ModelRow,
    WorkerRow,
    migrate,
)
from app.adapters.database.schema import head, revision
from app.domain.base import Record
from app.domain.errors import Conflict, InternalError
from app.domain.ports import Store, content_sha256
from app.services import operations
from app.settings import Settings

DATABASE_FILE = "secateur.sqlite3"
MANIFEST = "backup.json"
CHUNK = 1024 * 1024
ROUNDS = 5
"""Each is as quick as what changed during the last; two are usual where jobs run."""


class Backup(Record):
    """What a backup holds; its manifest."""

    version: str
    revision: str
    made_at: float
    """Seconds since 1970."""
    files: int
    bytes: int
    missing: tuple[str, ...] = ()
    """What the service itself has lost: rows name these files, and the store lacks them, or has
    another content under their name."""


class Restored(Record):
    """What was restored."""

    files: int
    requeued: int
    """Jobs that were running as the backup was made."""


def references(database: Database) -> dict[str, str]:
    """Everything in the store that a row refers to: key → SHA-256."""
    with database.read() as session:
        found = {key: content_sha256(key) for key in session.scalars(select(ModelRow.key))}
        for table in (DatasetRow, ArtifactRow):
            rows = session.execute(select(table.key, table.sha256))
            found |= {row.key: row.sha256 for row in rows}
        for kept in session.scalars(select(JobRow.checkpoint)):
            if kept is not None:
                found[kept["key"]] = kept["sha256"]
    return found


def lost(database: Database, store: Store) -> Iterator[str]:
    """What rows refer to and the store lacks, or has with another content."""
    with store.scratch() as folder:
        for key, sha256 in references(database).items():
            copy = folder / "copy"
            try:
                store.fetch(key, sha256, copy)
            except InternalError:
                yield key
            copy.unlink(missing_ok=True)


def backup(settings: Settings, folder: Path) -> Backup:
    """Copy database and store into an empty folder. Raises `Conflict`."""
    source = _sqlite_file(settings)
    if not source.exists():
        raise Conflict(f"There is no {source}: nothing to back up. Name the service's data folder.")
    _require_empty(folder, "the backup")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    root, kept = settings.store_dir, folder / "store"
    copy, missing, wanted = folder / DATABASE_FILE, [""], dict[str, str]()
    for _ in range(ROUNDS):
        _snapshot(source, copy)
        wanted = _references_of(copy)
        missing = [k for k, sha256 in wanted.items() if not _copied(root, k, sha256, kept / k)]
        if not missing:
            break
    _forget_others(kept, wanted)
    made = Backup(
        version=version("secateur"),
        revision=revision(f"sqlite:///{copy}") or "",
        made_at=time.time(),
        files=len(wanted) - len(missing),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        missing=tuple(missing),
    )
    # Last: a folder without it is no backup, but the beginning of one.
    (folder / MANIFEST).write_text(made.model_dump_json(indent=2) + "\n")
    return made


def restore(folder: Path, settings: Settings) -> Restored:
    """Make a backup the content of an empty data folder, brought up to this release.

    Every file is checked against its hash. Raises `Conflict`, `InternalError`.
    """
    made = _manifest(folder)
    if made.revision > head():
        raise Conflict(
            f"The backup was made by release {made.version}, whose tables (revision "
            f"{made.revision}) are newer than this release's ({head()}). Install that release."
        )
    target = _sqlite_file(settings)
    _require_empty(settings.data_dir, "the data")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / DATABASE_FILE, target)
    migrate(settings.effective_database_url)
    database = Database(settings.effective_database_url)
    source, store = folder / "store", settings.store_dir
    try:
        wanted = references(database)
        for key, sha256 in wanted.items():
            if not _copied(source, key, sha256, store / key) and key not in made.missing:
                raise InternalError(
                    f"The backup's file {key} is missing or damaged. Use another backup."
                )
        with database.write() as session:
            session.execute(delete(WorkerRow))
        requeued = operations.hand_back_all(database)
    finally:
        database.close()
    return Restored(files=len(wanted), requeued=requeued)


# --- pieces ------------------------------------------------------------------------------------
def _sqlite_file(settings: Settings) -> Path:
    url = settings.effective_database_url
    if not url.startswith("sqlite:///"):
        raise Conflict(
            "This backs up SQLite and a folder. PostgreSQL is dumped by pg_dump, and the store "
            "copied after it: see docs/operations.md."
        )
    return Path(url.removeprefix("sqlite:///"))


def _require_empty(folder: Path, what: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(
            f"{folder.absolute()} is not empty, and {what} would mix with what is there. Name "
            "another folder."
        )


def _snapshot(source: Path, copy: Path) -> None:
    """One state of the database, while others write. [sqlite.org/backup.html]"""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(source, timeout=20)) as from_,
        closing(sqlite3.connect(copy)) as to,
    ):
        from_.backup(to)
        # One file, without the log that the service keeps beside its own.
        to.execute("PRAGMA journal_mode = DELETE")
        said = to.execute("PRAGMA quick_check").fetchone()[0]
    if said != "ok":
        raise InternalError(f"SQLite finds its file {source} damaged: {said}")


def _references_of(copy: Path) -> dict[str, str]:
    # The copy has this release's tables, or those of one before, whose keys are the same.
    with closing(sqlite3.connect(copy)) as connection:
        found = {
            key: content_sha256(key) for (key,) in connection.execute("SELECT key FROM models")
        }
        for table in ("datasets", "artifacts"):
            found |= dict(connection.execute(f"SELECT key, sha256 FROM {table}"))  # noqa: S608
        kept = connection.execute("SELECT checkpoint FROM jobs WHERE checkpoint IS NOT NULL")
        for checkpoint in (json.loads(text) for (text,) in kept):
            found[checkpoint["key"]] = checkpoint["sha256"]
    return found


def _copied(root: Path, key: str, sha256: str, destination: Path) -> bool:
    """Whether a file of a store's folder is there now, with its content."""
    if destination.exists():
        return True
    destination.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with (root / key).open("rb") as source, destination.open("xb") as target:
            while data := source.read(CHUNK):
                digest.update(data)
                target.write(data)
    except FileNotFoundError:
        destination.unlink(missing_ok=True)
        return False
    if digest.hexdigest() != sha256:
        destination.unlink()
        return False
    return True


def _forget_others(kept: Path, wanted: dict[str, str]) -> None:
    """What an earlier round copied, and the last state no longer names."""
    for path in list(kept.rglob("*")):
        if path.is_file() and str(path.relative_to(kept)) not in wanted:
            path.unlink()


def _manifest(folder: Path) -> Backup:
    try:
        return Backup.model_validate_json((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise Conflict(
            f"{folder.absolute()} holds no backup: its {MANIFEST} is missing or cannot be read. It "
            "is written last, so a backup that was interrupted has none."
        ) from error
