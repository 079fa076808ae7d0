"""What keeps a job's lease while its worker is busy, with the store or with ending."""

import threading
import time
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from app.adapters.database import Database
from app.domain.errors import Unavailable
from app.domain.job import Attempt
from app.services import lifecycle
from app.services.lifecycle import LeaseLost

SILENCE_SECONDS = 600.0
"""A database that is away for so long may have given the job to others for good. Until then the
attempt goes on: nothing of it becomes visible without the row's consent."""


class Cancelled(Exception):
    """The user asked for it."""


class Heart:
    """A thread that renews the lease: copying large files to a slow store must not lose the job.

    Args:
        lease_seconds: for each renewal.
        every_seconds: between renewals.
        longest_seconds: then it stops, so that a worker that hangs for good loses its job.
    """

    def __init__(
        self,
        database: Database,
        attempt: Attempt,
        lease_seconds: float,
        every_seconds: float,
        longest_seconds: float,
    ) -> None:
        self._database = database
        self._attempt = attempt
        self._lease_seconds = lease_seconds
        self._every_seconds = every_seconds
        self._renewed = time.monotonic()
        self._until = self._renewed + longest_seconds
        self._stop = threading.Event()
        self._cancelled = self._lost = False
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises `LeaseLost`, `Cancelled`."""
        self.check_lease()
        if self._cancelled:
            raise Cancelled

    def check_lease(self) -> None:
        """Raises `LeaseLost`."""
        if self._lost:
            raise LeaseLost(self._attempt.job)

    def _run(self) -> None:
        while not self._lost and not self._stop.wait(self._every_seconds):
            self._beat()

    def _beat(self) -> None:
        now = time.monotonic()
        if now > self._until:
            self._lost = True
            return
        try:
            self._cancelled |= lifecycle.heartbeat(
                self._database, self._attempt, self._lease_seconds
            )
            self._renewed = now
        except LeaseLost:
            self._lost = True
        except (Unavailable, SQLAlchemyError):
            self._lost = now - self._renewed > max(SILENCE_SECONDS, self._lease_seconds)
