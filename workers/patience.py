"""Asking the store on behalf of a running job: the lease is kept meanwhile, and again while it is
away."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from app.domain.errors import Unavailable

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class Patience:
    """Runs what asks the store beside the caller, who goes on ticking.

    Args:
        seconds: how long the store may be away before its `Unavailable` is passed on.
        every_seconds: between two ticks.
        tick: renews the lease; what it raises ends the wait.
        may_wait: raises where there is no time to wait for the store to come back.
    """

    def __init__(
        self,
        seconds: float,
        every_seconds: float,
        tick: Callable[[], None],
        may_wait: Callable[[], None],
    ) -> None:
        self._seconds = seconds
        self._every_seconds = every_seconds
        self._tick = tick
        self._may_wait = may_wait
        self._away_since: float | None = None

    def ask(self, operation: Callable[[], Answer]) -> Answer:
        """The answer; it is asked again, with growing pauses, while the store is away."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self.ask_once(operation)
                self._away_since = None
                return answer
            except Unavailable as error:
                now = time.monotonic()
                self._away_since = self._away_since or now
                if now + pause - self._away_since > self._seconds:
                    raise
                log.warning("store_away", reason=error.detail, pause_seconds=pause)
            self._wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def ask_once(self, operation: Callable[[], Answer]) -> Answer:
        """The answer, or what the operation raises."""
        beside = _Beside(operation)
        while not beside.ended.wait(self._every_seconds):
            self._tick()
        if beside.error is not None:
            raise beside.error
        answer: Answer = beside.answer
        return answer

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._may_wait()
            self._tick()
            time.sleep(min(left, self._every_seconds))


class _Beside:
    """An operation in a thread of its own; nobody waits for one whose job is gone."""

    def __init__(self, operation: Callable[[], Any]) -> None:
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: BaseException | None = None
        self._operation = operation
        threading.Thread(target=self._run, name="store", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answer = self._operation()
        except BaseException as error:  # noqa: BLE001  (the caller raises it)
            self.error = error
        finally:
            self.ended.set()
