"""Tells the database that this worker lives, and what it confines jobs by."""

import threading
from collections.abc import Sequence

import structlog

from app.adapters.database import Database
from app.domain.confinement import Confinement
from app.domain.errors import Unavailable
from app.services import workers

log = structlog.get_logger(__name__)


class Presence:
    """A worker's row, renewed by a thread: a job keeps the rest of the worker busy for hours."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, confinement: Confinement, queues: Sequence[str], memory_bytes: int) -> None:
        """Write the row, now or as soon as the database answers, and keep it."""
        self._thread = threading.Thread(
            target=self._keep,
            args=(confinement, queues, memory_bytes),
            name="presence",
            daemon=True,
        )
        self._thread.start()

    def _keep(self, confinement: Confinement, queues: Sequence[str], memory_bytes: int) -> None:
        written = False
        while True:
            try:
                if not written or not workers.renew(self._database, self._name):
                    workers.report(self._database, self._name, confinement, queues, memory_bytes)
                    written = True
            except Unavailable as error:
                log.warning("presence_postponed", reason=error.detail)
            if self._ending.wait(workers.RENEWED_SECONDS):
                return

    def end(self) -> None:
        """Take the row back."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        try:
            workers.forget(self._database, self._name)
        except Unavailable:
            pass  # It is forgotten by itself within a minute.
