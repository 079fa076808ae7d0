"""The client without its network: each operation is a generator that asks for what it needs.

An operation (a *flow*) yields requests, pauses and streams, and is handed what came of them; errors
of the connection are thrown into it. A driver (`drivers.py`), blocking or asynchronous, carries
them out. So retries, resuming and protocols are written once, and are tested without a network.
Flows read and write files themselves, a piece at a time, with both drivers.
"""

import random
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from app.client.errors import failure, unreachable

ATTEMPTS = 5
LONGEST_PAUSE_SECONDS = 60.0
"""However long the service asks to wait."""
LONGEST_BACKOFF_SECONDS = 8.0
BUSY = frozenset({429, 502, 503, 504})
"""Answers after which the same request may succeed."""
PATIENCE_SECONDS = 300.0
"""How long a service may be away while a job is followed or a large file is sent."""


@dataclass(frozen=True)
class Call:
    """A request; the driver hands its answer back, read to the end."""

    method: str
    path: str
    params: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """What else httpx is to be told: json, content, files, data."""
    repeatable: bool = True
    """Whether it may be sent again when nobody knows if it was carried out."""


@dataclass(frozen=True)
class Open:
    """A request whose answer is read piece by piece; the driver hands back its head."""

    call: Call


@dataclass(frozen=True)
class Chunk:
    """The next piece of what was opened; None at its end."""


@dataclass(frozen=True)
class Read:
    """The rest of what was opened, into the answer's `content`; closes it."""


@dataclass(frozen=True)
class Close:
    """No more of what was opened."""


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Something for the caller, before the flow has ended."""

    value: Any


Effect = Call | Open | Chunk | Read | Close | Pause | Emit
T = TypeVar("T")
Flow = Generator[Effect, Any, T]


def post(path: str, **more: Any) -> Call:
    """A request that creates something: one key for all tries, so that it is created once."""
    return Call("POST", path, headers={"Idempotency-Key": secrets.token_hex(16)}, more=more)


def send(call: Call, patience_seconds: float = 0.0) -> Flow[httpx.Response]:
    """The answer to a request, tried again while the service is busy or away.

    Args:
        call: the request.
        patience_seconds: how long to go on after the usual few tries.

    Raises:
        SecateurError: what the service answered.
        Unreachable: it did not answer.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        last = attempt >= ATTEMPTS and time.monotonic() - began >= patience_seconds
        try:
            answer: httpx.Response = yield call
        except httpx.TransportError as error:
            if last or not call.repeatable:
                raise unreachable(error) from error
            yield Pause(backoff(attempt))
            continue
        if answer.status_code not in BUSY or last:
            if answer.is_error:
                raise failure(answer)
            return answer
        yield Pause(asked_pause(answer, attempt))


def asked_pause(answer: httpx.Response, attempt: int) -> float:
    """Seconds until the next try: what the service asks for, if it does."""
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE_SECONDS) if asked.isdigit() else backoff(attempt)


def backoff(attempt: int) -> float:
    """Seconds: twice as long each time, and up to half as much again by chance, so that clients
    that were cut off together do not come back together."""
    return float(min(0.2 * 2**attempt, LONGEST_BACKOFF_SECONDS) * random.uniform(1, 1.5))  # noqa: S311
