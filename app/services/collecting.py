"""What nobody needs any more is deleted: files without a row, uploads that were given up, and what
is old, where the settings say so.

A file goes when no row refers to it and it was last written a while ago: whoever writes one makes
its row soon after. What the rows say is asked after the files were listed, never before.
"""

import threading
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, TypeVar

import structlog
from sqlalchemy import Select, delete, func, select

from app.adapters.database import (
    ArtifactRow,
    Database,
    DatasetRow,
    JobRow,
    ModelRow,
    SweepRow,
    UploadRow,
)
from app.domain.errors import InUse, NotFound, SecateurError
from app.domain.job import ENDED
from app.domain.people import Caller
from app.domain.ports import Store, Stored
from app.domain.upload import UploadState
from app.services import audit, segments
from app.services.uploads import Uploads
from app.settings import Settings

BATCH = 500
LEAST_SECONDS = 60.0
MOST_SECONDS = 900.0
DAY_SECONDS = 86_400

Item = TypeVar("Item")

log = structlog.get_logger(__name__)


class Collector:
    """Several may run: whatever is deleted is nobody's, also a moment later."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self.database = database
        self.store = store
        self.settings = settings
        self._uploads = Uploads(database, store, settings)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; an error ends one round and never the loop."""
        pause = min(max(self.settings.blob_grace_seconds / 4, LEAST_SECONDS), MOST_SECONDS)
        while not stop.wait(pause):
            try:
                self.round()
            except SecateurError as error:
                log.warning("collecting_failed", reason=error.detail)
            except Exception:
                log.exception("collecting_failed")

    def round(self) -> None:
        """Delete what is old, then what nobody refers to."""
        self._retire()
        self._expire_uploads()
        self.store.sweep_temporary(max(self._grace, 3600.0))
        for key in self.garbage():
            self._sweep(key)
        self._sweep_uploads()
        self._look_through_swept()

    @property
    def _grace(self) -> float:
        return self.settings.blob_grace_seconds

    # --- files without a row ---------------------------------------------------------------
    def garbage(self) -> Iterator[str]:
        """Keys of contents and jobs' files that no row refers to, old enough to be deleted."""
        for some in _batched(self.store.content_keys(self._grace)):
            yield from sorted(set(some) - self._referred(set(some)))
        yield from self._of_jobs()

    def _of_jobs(self) -> Iterator[str]:
        """Files of deleted jobs, of attempts that were never published, and old checkpoints."""
        by_job = groupby(self.store.listed("jobs"), lambda stored: _owner_of(stored.key))
        for some in _batched((job, list(files)) for job, files in by_job):
            old = {
                stored.key
                for _, files in some
                for stored in files
                if stored.age_seconds > self._grace
            }
            if not old:
                continue
            running = self._attempts_under_way(job for job, _ in some)
            for key in sorted(old - self._referred(old)):
                if not key.startswith(running.get(_owner_of(key), "\0")):
                    yield key

    def _attempts_under_way(self, jobs: Iterable[str]) -> dict[str, str]:
        """Folder of the present attempt of jobs that have not ended."""
        with self.database.read() as session:
            rows = session.execute(
                select(JobRow.id, JobRow.fence).where(
                    JobRow.id.in_(list(jobs)), JobRow.state.not_in(ENDED)
                )
            ).all()
        return {job: f"jobs/{job}/a{fence}/" for job, fence in rows}

    def _sweep_uploads(self) -> None:
        """Bytes of uploads that are gone."""
        by_upload = groupby(self.store.listed("uploads"), lambda stored: _owner_of(stored.key))
        for some in _batched((id_, list(files)) for id_, files in by_upload):
            with self.database.read() as session:
                ids = [id_ for id_, _ in some]
                there = set(session.scalars(select(UploadRow.id).where(UploadRow.id.in_(ids))))
            for id_, files in some:
                if id_ not in there and _all_older(files, self._grace):
                    self.store.delete_prefix(segments.folder(id_))
                    log.info("upload_swept", upload=id_)

    def _look_through_swept(self) -> None:
        """What was written again while it was swept comes back; the rest goes for good."""
        for some in _batched(self.store.swept()):
            referred = self._referred({stored.key for stored in some})
            for stored in some:
                if stored.key in referred:
                    self.store.restore(stored.key)
                    log.warning("blob_restored", key=stored.key)
                elif stored.age_seconds > self._grace:
                    self.store.purge(stored.key)

    def _sweep(self, key: str) -> None:
        if self.store.delete_old(key, self._grace):
            log.info("blob_swept", key=key)

    def _referred(self, keys: set[str]) -> set[str]:
        """Those that a row refers to."""
        # By what the rows are found by quickly: contents by key, files of jobs by their job.
        contents = [key for key in keys if key.startswith("blobs/")]
        jobs = {_owner_of(key) for key in keys if key.startswith("jobs/")}
        with self.database.read() as session:
            queries: tuple[Select[str], ...] = (
                select(ModelRow.key).where(ModelRow.key.in_(contents)),
                select(DatasetRow.key).where(DatasetRow.key.in_(contents)),
                select(ArtifactRow.key).where(ArtifactRow.job_id.in_(jobs)),
                select(JobRow.checkpoint["key"].as_string()).where(
                    JobRow.id.in_(jobs), JobRow.checkpoint.is_not(None)
                ),
            )
            return keys & {key for query in queries for key in session.scalars(query)}

    # --- what is old -----------------------------------------------------------------------
    def _expire_uploads(self) -> None:
        with self.database.write() as session:
            gone = session.scalars(
                delete(UploadRow)
                .where(
                    UploadRow.expires_at < func.clock(),
                    UploadRow.state != UploadState.PROCESSING,
                )
                .returning(UploadRow.id)
                .execution_options(synchronize_session=False)
            ).all()
        for id_ in gone:
            self.store.delete_prefix(segments.folder(id_))
            log.info("upload_expired", upload=id_)

    def _retire(self) -> None:
        if days := self.settings.retention_days_jobs:
            for id_, owner in self._ended_before(days):
                self._forget_job(id_, owner)
            self._forget_empty_sweeps(days)
        if days := self.settings.retention_days_uploads:
            for id_, owner in self._unneeded_before(ModelRow, JobRow.model_id, days):
                self._try(self._uploads.of(Caller(owner=owner)).delete_model, id_)
            for id_, owner in self._unneeded_before(DatasetRow, JobRow.dataset_id, days):
                self._try(self._uploads.of(Caller(owner=owner)).delete_dataset, id_)

    def _try(self, forget: Any, id_: str) -> None:
        try:
            forget(id_)
            log.info("retired", id=id_)
        except (InUse, NotFound):
            pass  # It is needed again, or gone already.

    def _forget_job(self, id_: str, owner: str) -> None:
        with self.database.write() as session:
            row = session.get(JobRow, id_, with_for_update=True)
            if row is None or row.state not in ENDED:
                return  # It was tried again.
            session.delete(row)
            audit.record(session, Caller(owner=owner), "job.delete", id_)
        self.store.delete_prefix(f"jobs/{id_}")
        log.info("retired", id=id_)

    def _ended_before(self, days: float) -> list[tuple[str, str]]:
        with self.database.read() as session:
            rows = session.execute(
                select(JobRow.id, JobRow.owner)
                .where(
                    JobRow.kind == "prune",
                    JobRow.state.in_(ENDED),
                    JobRow.finished_at < func.clock() - days * DAY_SECONDS,
                )
                .order_by(JobRow.finished_at)
                .limit(BATCH)
            ).all()
        return [(id_, owner) for id_, owner in rows]

    def _unneeded_before(
        self, kind: type[ModelRow | DatasetRow], reference: Any, days: float
    ) -> list[tuple[str, str]]:
        needed = select(reference).where(reference == kind.id, JobRow.state.not_in(ENDED))
        with self.database.read() as session:
            rows = session.execute(
                select(kind.id, kind.owner)
                .where(kind.created_at < func.clock() - days * DAY_SECONDS, ~needed.exists())
                .order_by(kind.created_at)
                .limit(BATCH)
            ).all()
        return [(id_, owner) for id_, owner in rows]

    def _forget_empty_sweeps(self, days: float) -> None:
        with self.database.write() as session:
            session.execute(
                delete(SweepRow)
                .where(
                    SweepRow.created_at < func.clock() - days * DAY_SECONDS,
                    SweepRow.id.not_in(select(JobRow.sweep_id).where(JobRow.sweep_id.is_not(None))),
                )
                .execution_options(synchronize_session=False)
            )


def _owner_of(key: str) -> str:
    """Id of the job or the upload whose folder a key lies in."""
    return key.split("/")[1]


def _all_older(files: list[Stored], seconds: float) -> bool:
    return all(stored.age_seconds > seconds for stored in files)


def _batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, BATCH)):
        yield some
