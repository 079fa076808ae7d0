"""The doorway between Celery and a job: claim the row, supervise the child, finish the row."""

import os
import socket
from collections.abc import Callable

import structlog

from app.adapters.database import Database
from app.adapters.stores import open_store
from app.domain.confinement import Confinement
from app.domain.errors import SecateurError
from app.observe import traces
from app.services import lifecycle
from app.settings import Settings
from workers.confinement import Limits
from workers.presence import Presence
from workers.spare import Nursery
from workers.supervise import Supervisor
from workers.users import Users

log = structlog.get_logger(__name__)


class Doorway:
    """One per pool process; holds the database, the store and the warm spare."""

    def __init__(self, settings: Settings, draining: Callable[[], bool]) -> None:
        self.settings = settings
        self.draining = draining
        self.database = Database(settings.effective_database_url)
        self.store = open_store(settings)
        self.nursery = Nursery(Limits.of(settings), Users.of(settings))
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._presence = Presence(self.database, self.name)

    def open(self, confinement: Confinement) -> None:
        """Tell what jobs can be confined by, start the first spare."""
        traces.begin("worker")
        told = log.warning if confinement.missing else log.info
        told("confinement", said=confinement.sentence, worker=self.name)
        self._presence.begin(confinement)
        self.nursery.prepare()

    def close(self) -> None:
        """End the spare, give connections back."""
        self._presence.end()
        self.nursery.close()
        self.database.close()
        traces.end()

    def enter(self, job: str) -> None:
        """Carry out a job, if there is something to claim; a duplicate message finds nothing."""
        if self.draining():
            return
        structlog.contextvars.bind_contextvars(worker=self.name, job=job)
        try:
            attempt = lifecycle.claim(
                self.database,
                job,
                self.name,
                self.settings.lease_seconds,
                self.settings.quota_running_jobs,
            )
            if attempt is None:
                log.info("nothing_to_claim")
                return
            structlog.contextvars.bind_contextvars(attempt=attempt.fence, owner=attempt.owner)
            log.info("claimed", kind=attempt.kind)
            child = self.nursery.take()
            if attempt.kind != "prune":
                # Quick questions measure nothing that the next import of TensorFlow could disturb.
                self.nursery.prepare()
            try:
                ended = Supervisor(
                    self.database,
                    self.store,
                    self.settings,
                    attempt,
                    child,
                    self.draining,
                ).run()
            finally:
                child.close()
            log.info("ended", status=str(ended) if ended else "not ours")
            if not self.draining():
                # Only now: importing TensorFlow beside a job would slow it, and its measuring.
                self.nursery.prepare()
        except SecateurError as error:
            # The row is untouched, or its lease runs out: the reaper brings the job back.
            log.error("attempt_abandoned", reason=error.detail)
        finally:
            structlog.contextvars.clear_contextvars()
