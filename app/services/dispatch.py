"""Announcing queued jobs to workers, and the reaper that repeats it for the forgotten."""

import threading

import structlog
from sqlalchemy import delete, func, or_, select

from app.adapters.database import Database, DatasetRow, JobRow, ModelRow
from app.adapters.database.tables import IdempotencyRow
from app.adapters.queue import QUEUES
from app.adapters.store import FolderStore
from app.domain.errors import SecateurError, Unavailable
from app.domain.job import ENDED
from app.domain.ports import Queue
from app.services import lifecycle
from app.settings import Settings

PLAN_KEPT_SECONDS = 600.0
HOUSEKEEPING_SECONDS = 60.0

log = structlog.get_logger(__name__)


def dispatch(database: Database, queue: Queue, kind: str, job: str) -> None:
    """Announce a committed job. A broker that is away is no error: the reaper will repeat it."""
    try:
        queue.wake(kind, job)
    except Unavailable as error:
        log.warning("dispatch_postponed", job=job, reason=error.detail)
        return
    lifecycle.mark_dispatched(database, job)


class Reaper:
    """Brings back what was lost. Several may run: every step is conditional in the database."""

    def __init__(
        self, database: Database, store: FolderStore, queue: Queue, settings: Settings
    ) -> None:
        self.database = database
        self.store = store
        self.queue = queue
        self.settings = settings
        self._since_housekeeping = HOUSEKEEPING_SECONDS

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; an error ends one round and never the loop."""
        while not stop.wait(self.settings.reaper_interval_seconds):
            try:
                self.round()
            except SecateurError as error:
                log.warning("reaper_round_failed", reason=error.detail)
            except Exception:
                log.exception("reaper_round_failed")

    def round(self) -> None:
        """One look: lost leases, forgotten jobs, and now and then housekeeping."""
        for job in lifecycle.reap(self.database):
            log.warning("lease_lost", job=job)
        for kind in QUEUES:
            self._redispatch(kind)
        self._since_housekeeping += self.settings.reaper_interval_seconds
        if self._since_housekeeping >= HOUSEKEEPING_SECONDS:
            self._since_housekeeping = 0.0
            self._housekeep()

    def _redispatch(self, kind: str) -> None:
        waiting = lifecycle.undispatched(self.database, kind, self.settings.redispatch_seconds)
        if not waiting:
            return
        # Messages that still wait in the broker are not repeated: a long queue must not grow
        # by its own length every few seconds.
        missing = len(waiting) - self.queue.depth(kind)
        for job in waiting[: max(missing, 0)]:
            dispatch(self.database, self.queue, kind, job)

    def _housekeep(self) -> None:
        with self.database.write() as session:
            session.execute(
                delete(IdempotencyRow).where(
                    IdempotencyRow.created_at
                    < func.clock() - self.settings.idempotency_hours * 3600
                )
            )
            session.execute(
                delete(JobRow).where(
                    JobRow.kind == "plan",
                    JobRow.state.in_(ENDED),
                    JobRow.updated_at < func.clock() - PLAN_KEPT_SECONDS,
                )
            )
        self.store.sweep_temporary(max(self.settings.blob_grace_seconds, 3600.0))
        for key in self.store.content_keys(self.settings.blob_grace_seconds):
            self._sweep(key)

    def _sweep(self, key: str) -> None:
        with self.database.read() as session:
            used = session.scalar(
                select(
                    or_(
                        select(ModelRow.id).where(ModelRow.key == key).exists(),
                        select(DatasetRow.id).where(DatasetRow.key == key).exists(),
                    )
                )
            )
        if not used and self.store.delete_old(key, self.settings.blob_grace_seconds):
            log.info("blob_swept", key=key)
