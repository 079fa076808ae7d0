"""What clients did and were answered, and what was done to the service, by one clock."""

import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request; `status` 0 where no answer came."""

    began: float
    ended: float
    what: str
    """submit, get, cancel, retry, delete, download."""
    job: str
    """Empty where a submit was not answered."""
    status: int
    key: str = ""
    """The Idempotency-Key."""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """Something done to the service."""

    began: float
    ended: float
    what: str
    pids: tuple[int, ...] = ()
    """Processes that it hit."""


class History:
    """Written by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        self.faults: list[Fault] = []

    def call(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def fault(self, began: float, what: str, pids: Iterable[int] = ()) -> None:
        """Remember a fault that ends now."""
        with self._lock:
            self.faults.append(Fault(began, time.time(), what, tuple(pids)))

    def of(self, job: str) -> list[dict[str, Any]]:
        """A job's calls, in order."""
        return [asdict(call) for call in sorted(self.calls, key=_began) if call.job == job]


def _began(call: Call) -> float:
    return call.began
