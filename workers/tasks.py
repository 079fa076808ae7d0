"""The doorway between Celery and a job: claim the row, supervise the child, finish the row."""

import os
import socket
from collections.abc import Callable

import structlog

from app.adapters.database import Database
from app.adapters.database import Limits as DatabaseLimits
from app.adapters.stores import open_store
from app.domain.confinement import Confinement
from app.domain.errors import SecateurError
from app.domain.job import Attempt
from app.domain.queues import QUEUES
from app.observe import traces
from app.services import lifecycle
from app.settings import Settings
from workers.confinement import Limits
from workers.nursery import Nursery
from workers.presence import Presence
from workers.supervise import Supervisor
from workers.users import Users

log = structlog.get_logger(__name__)


class Doorway:
    """One per pool process; holds the database, the store and where jobs' processes come from."""

    def __init__(self, settings: Settings, draining: Callable[[], bool]) -> None:
        self.settings = settings
        self.draining = draining
        self.database = Database(
            settings.effective_database_url, DatabaseLimits.model_validate(settings.database_limits)
        )
        self.store = open_store(settings)
        self.nursery = Nursery(Limits.of(settings), Users.of(settings))
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._presence = Presence(self.database, self.name)

    def open(self, confinement: Confinement) -> None:
        """Tell what jobs can be confined by, start importing TensorFlow."""
        traces.begin("worker")
        told = log.warning if confinement.missing else log.info
        told("confinement", said=confinement.sentence, worker=self.name)
        self._presence.begin(
            confinement, self.settings.served_queues, self.settings.job_memory_bytes
        )
        self.nursery.prepare()

    def close(self) -> None:
        """End the template, give connections back."""
        self._presence.end()
        self.nursery.close()
        self.database.close()
        traces.end()

    def enter(self, word: str) -> None:
        """Carry out the job of a queue whose turn it is; a message too many finds nothing.

        Args:
            word: the queue's name. Anything else, such as the job's id that releases before 0.3
                sent, makes the worker look into all of its queues.
        """
        if self.draining():
            return
        structlog.contextvars.bind_contextvars(worker=self.name)
        try:
            attempt = self._claim(word)
            if attempt is None:
                log.info("nothing_to_claim", queue=word)
                return
            structlog.contextvars.bind_contextvars(
                job=attempt.job, attempt=attempt.fence, owner=attempt.owner
            )
            log.info("claimed", kind=attempt.kind, queue=word)
            child = self.nursery.take()
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
                if not self.draining():
                    # It may have ended with the job: the next one shall not wait for an import.
                    self.nursery.prepare()
            log.info("ended", status=str(ended) if ended else "not ours")
        except SecateurError as error:
            # The row is untouched, or its lease runs out: the reaper brings the job back.
            log.error("attempt_abandoned", reason=error.detail)
        finally:
            structlog.contextvars.clear_contextvars()

    def _claim(self, word: str) -> Attempt | None:
        served = self.settings.served_queues
        # Only what this worker serves, wherever the message has come from.
        for queue in served if word not in QUEUES else [each for each in served if each == word]:
            attempt = lifecycle.claim_next(
                self.database,
                queue,
                self.name,
                self.settings.lease_seconds,
                memory_bytes=self.settings.job_memory_bytes,
                priority_seconds=self.settings.priority_seconds,
                most_running=None if queue == "quick" else self.settings.quota_running_jobs,
            )
            if attempt is not None:
                return attempt
        return None
