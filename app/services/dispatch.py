"""Announcing queued jobs to workers, and the reaper that repeats it for the forgotten."""

import threading
from collections.abc import Sequence
from importlib.metadata import version

import structlog
from sqlalchemy import delete, func, or_, select

from app.adapters.database import Database, DatasetRow, JobRow, ModelRow
from app.adapters.database.tables import IdempotencyRow
from app.adapters.queue import QUEUES
from app.adapters.store import FolderStore
from app.domain.errors import SecateurError, Unavailable
from app.domain.job import ENDED, Status
from app.domain.ports import Queue
from app.services import audit, lifecycle
from app.services.sender import Sender
from app.settings import Settings

ANSWER_KEPT_SECONDS = 600.0
HOUSEKEEPING_SECONDS = 60.0
LAST_DELIVERIES_SECONDS = 2.0
"""At the end, for requests to webhooks that are on their way; the others are repeated."""

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
        self.sender = Sender(database, settings)
        self._since_housekeeping = HOUSEKEEPING_SECONDS

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; an error ends one round and never the loop."""
        while not stop.wait(self.settings.reaper_interval_seconds):
            # Webhooks need no broker, so one that is away must not hold them up.
            for part in (self.round, self.sender.round):
                try:
                    part()
                except SecateurError as error:
                    log.warning("reaper_round_failed", reason=error.detail)
                except Exception:
                    log.exception("reaper_round_failed")
        self.sender.wait(LAST_DELIVERIES_SECONDS)

    def round(self) -> None:
        """One look: lost leases, forgotten jobs, and now and then housekeeping."""
        for job in lifecycle.reap(self.database):
            log.warning("lease_lost", job=job)
        for queue in dict.fromkeys(QUEUES.values()):
            self._redispatch([kind for kind in QUEUES if QUEUES[kind] == queue])
        self._since_housekeeping += self.settings.reaper_interval_seconds
        if self._since_housekeeping >= HOUSEKEEPING_SECONDS:
            self._since_housekeeping = 0.0
            self._housekeep()

    def _redispatch(self, kinds: Sequence[str]) -> None:
        """Announce again what waits too long, of the kinds that share a queue."""
        kind = kinds[0]
        waiting = lifecycle.undispatched(
            self.database,
            kinds,
            self.settings.redispatch_seconds,
            self.settings.quota_running_jobs,
        )
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
        self._forget_answers()
        audit.forget(self.database, self.settings.audit_days)
        self.sender.forget()
        self.store.sweep_temporary(max(self.settings.blob_grace_seconds, 3600.0))
        for key in self.store.content_keys(self.settings.blob_grace_seconds):
            self._sweep(key)

    def _forget_answers(self) -> None:
        """Dry runs a while after their end, and analyses that no request will be answered with."""
        useless = or_(
            JobRow.kind == "plan",
            JobRow.state != Status.SUCCEEDED,
            JobRow.result["engine"].as_string() != version("secateur"),
            JobRow.model_id.not_in(select(ModelRow.id)),
        )
        with self.database.write() as session:
            forgotten = session.scalars(
                delete(JobRow)
                .where(
                    JobRow.kind.in_(("plan", "analysis")),
                    JobRow.state.in_(ENDED),
                    JobRow.updated_at < func.clock() - ANSWER_KEPT_SECONDS,
                    useless,
                )
                .returning(JobRow.id)
                .execution_options(synchronize_session=False)
            ).all()
        for id_ in forgotten:
            self.store.delete_prefix(f"jobs/{id_}")

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
