"""Following a job: its state until it has ended, its events as they happen."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from app.client.errors import failure
from app.client.flows import (
    BUSY,
    PATIENCE_SECONDS,
    Call,
    Chunk,
    Close,
    Emit,
    Flow,
    Open,
    Pause,
    Read,
    asked_pause,
    backoff,
    send,
)
from app.client.resources import JobState, SweepState
from app.domain.job import Event

SHORTEST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 2.0

State = TypeVar("State", JobState, SweepState)


def wait(
    path: str, read: Callable[[Any], State], timeout_seconds: float | None = None
) -> Flow[State]:
    """The state of a job or sweep that has ended. Emits each that was seen.

    Raises:
        TimeoutError: it has not ended in time; it goes on.
        Unreachable: the service was away for longer than `PATIENCE_SECONDS`.
    """
    began = time.monotonic()
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        answer = yield from send(Call("GET", path), patience_seconds=PATIENCE_SECONDS)
        state = read(answer.json())
        yield Emit(state)
        if state.done:
            return state
        if timeout_seconds is not None and time.monotonic() - began + pause > timeout_seconds:
            raise TimeoutError(
                f"{state.id} has not ended within {timeout_seconds:g} s; it goes on."
            )
        yield Pause(pause)
        pause = min(pause * 1.2, LONGEST_PAUSE_SECONDS)


def page(path: str, after: int) -> Flow[tuple[int, bool]]:
    """Emit the events that there are, up to a page of them; gives the last one's number, and
    whether no more can come."""
    call = Call("GET", path, params={"after": after}, headers={"Accept": "application/json"})
    found = (yield from send(call, patience_seconds=PATIENCE_SECONDS)).json()
    for item in found["items"]:
        event = Event.model_validate(item)
        after = event.id
        yield Emit(event)
    return after, bool(found["done"])


def past(path: str, after: int = 0) -> Flow[None]:
    """Emit the events that there are by now."""
    last, done = -1, False
    while after > last and not done:
        last = after
        after, done = yield from page(path, after)


def events(path: str, after: int = 0) -> Flow[None]:
    """Emit events [Server-Sent Events, WHATWG HTML 9.2], each once, until the job has ended.

    Raises:
        SecateurError: what the service answered.
        Unreachable: it was away for longer than `PATIENCE_SECONDS`.
    """
    last, done = yield from page(path, after)
    attempt = 0
    while not done:
        before = last
        try:
            last = yield from _stream(path, last)
        except httpx.TransportError:
            pass  # Whether it is away for good shows with the page.
        attempt = attempt + 1 if last == before else 0
        if attempt:
            yield Pause(backoff(attempt))
        # A stream ends with its job, but also with a service that stops.
        last, done = yield from page(path, last)


def _stream(path: str, last: int) -> Flow[int]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
    answer = yield Open(Call("GET", path, headers=headers))
    if answer.is_error:
        yield Read()
        if answer.status_code not in BUSY:
            raise failure(answer)
        yield Pause(asked_pause(answer, 1))
        return last
    lines = Lines()
    try:
        while (chunk := (yield Chunk())) is not None:
            for event in lines.feed(chunk):
                last = event.id
                yield Emit(event)
    except httpx.TransportError:
        pass  # What came of it counts; the caller looks whether more is to come.
    yield Close()
    return last


class Lines:
    """Events out of a stream's bytes. The service writes each event's data on one line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are complete by now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield Event.model_validate(json.loads(line.removeprefix(b"data:")))
