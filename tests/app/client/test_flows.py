"""What the client asks for when things go wrong, by both drivers, without a network."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from app.client import InvalidRequest, RequestFailed, Unreachable, calls, flows
from app.client.drivers import AsyncDriver, Driver, settings
from app.client.errors import error_of
from app.client.following import Lines, events
from app.client.wording import line
from app.domain.errors import SecateurError, TooManyRequests, error_classes
from app.domain.job import Event

URL = "http://127.0.0.1:1"
PROBLEM = {"type": "/problems/too-many-requests", "detail": "Too many requests."}
JOB = {
    "id": "job_1",
    "status": "queued",
    "done": False,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": None,
    "finished_at": None,
    "attempt": 0,
    "cancel_requested": False,
    "queue_position": 0,
    "progress": None,
    "error": None,
    "metrics": None,
    "model": "mdl_1",
    "dataset": None,
    "spec": {"of": "a newer service"},
    "a_field": "of a newer service",
}
Answer = Callable[[httpx.Request], httpx.Response]
Run = Callable[[Any, Answer], Any]


def blocking(flow: Any, answer: Answer) -> Any:
    with httpx.Client(base_url=URL, transport=httpx.MockTransport(answer)) as http:
        return Driver(http).run(flow)


def asynchronous(flow: Any, answer: Answer) -> Any:
    async def run() -> Any:
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(base_url=URL, transport=transport) as http:
            return await AsyncDriver(http).run(flow)

    return asyncio.run(run())


@pytest.fixture(params=[blocking, asynchronous])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


class Module:
    """A module whose `sleep` is another."""

    def __init__(self, real: Any, sleep: Any) -> None:
        self.real = real
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    # In that module alone: servers of other tests run in this process, and pause too.
    monkeypatch.setattr("app.client.drivers.time", Module(time, slept.append))
    monkeypatch.setattr("app.client.drivers.asyncio", Module(asyncio, sleep))
    return slept


def answering(*answers: httpx.Response | Exception) -> Answer:
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        given = next(left)
        if isinstance(given, Exception):
            raise given
        return given

    return answer


def test_a_busy_service_is_asked_again_when_it_says(run: Run, pauses: list[float]) -> None:
    keys = set()
    answers = answering(
        httpx.Response(429, headers={"retry-after": "7"}, json=PROBLEM),
        httpx.Response(503, headers={"retry-after": "9999"}, json=PROBLEM),
        httpx.ReadError("cut"),
        httpx.Response(202, json=JOB),
    )

    def answer(request: httpx.Request) -> httpx.Response:
        keys.add(request.headers["idempotency-key"])
        return answers(request)

    state = run(calls.submit({}), answer)
    assert state.id == "job_1"
    assert state.spec == {"of": "a newer service"}
    assert state.model_dump()["a_field"] == "of a newer service"
    assert pauses[:2] == [7.0, flows.LONGEST_PAUSE_SECONDS]
    assert len(pauses) == 3
    assert len(keys) == 1


def test_it_is_not_asked_for_ever(run: Run, pauses: list[float]) -> None:
    with pytest.raises(TooManyRequests, match="Too many requests") as refused:
        run(
            calls.get(calls.JobState, "/v1/jobs/job_1"), lambda _: httpx.Response(429, json=PROBLEM)
        )
    assert refused.value.slug == "too-many-requests"
    assert len(pauses) == flows.ATTEMPTS - 1
    assert pauses == sorted(pauses)


def test_what_is_not_allowed_is_not_tried_again(run: Run, pauses: list[float]) -> None:
    with pytest.raises(SecateurError, match=r"^No\.$"):
        run(calls.delete("/v1/jobs/job_1"), lambda _: httpx.Response(401, json={"detail": "No."}))
    assert pauses == []


def test_what_may_have_been_carried_out_is_not_repeated(run: Run, pauses: list[float]) -> None:
    flow = calls.act(calls.JobState, "/v1/jobs/job_1/retry", repeatable=False)
    with pytest.raises(Unreachable, match=r"No answer from http://127\.0\.0\.1:1 "):
        run(flow, answering(httpx.ReadError("cut")))
    assert pauses == []


def test_an_answer_that_is_no_problem(run: Run) -> None:
    page = httpx.Response(404, text="<h1>nginx</h1>")
    with pytest.raises(RequestFailed, match="Is this a Secateur"):
        run(calls.delete("/v1/jobs/job_1"), lambda _: page)


def test_waiting_outlives_a_service_that_restarts(run: Run, pauses: list[float]) -> None:
    away = [httpx.ConnectError("refused")] * 12 + [httpx.Response(503, json=PROBLEM)] * 3
    ended = httpx.Response(200, json=JOB | {"status": "cancelled", "done": True})
    answers = answering(httpx.Response(200, json=JOB), *away, ended)
    state = run(calls.following.wait("/v1/jobs/job_1", calls.JobState.model_validate), answers)
    assert state.done
    assert len(pauses) == 16


def page(*numbers: int, done: bool) -> httpx.Response:
    items = [{"id": n, "at": 0.0, "kind": "note", "data": {}} for n in numbers]
    return httpx.Response(200, json={"items": items, "done": done})


def sent(*numbers: int) -> bytes:
    return b"".join(
        b'id: %d\nevent: note\ndata: {"id":%d,"at":0.0,"kind":"note","data":{}}\n\n' % (n, n)
        for n in numbers
    )


def test_events_come_once_each_whatever_breaks() -> None:
    """A stream that breaks in the middle of an event, one that is refused, one that just ends."""

    def breaking() -> Iterator[bytes]:
        yield sent(2, 3) + b'id: 4\ndata: {"id"'
        raise httpx.ReadError("cut")

    answers = [
        page(1, done=False),
        httpx.Response(200, content=breaking()),
        page(4, done=False),
        httpx.Response(503, json=PROBLEM),
        page(done=False),
        httpx.Response(200, content=b": ping\n\n" + sent(5)),
        page(done=False),
        httpx.ConnectError("refused"),
        page(6, done=True),
    ]
    asked: list[tuple[str | None, str | None]] = []
    answer = answering(*answers)

    def noting(request: httpx.Request) -> httpx.Response:
        asked.append((request.headers.get("last-event-id"), request.url.params.get("after")))
        return answer(request)

    with httpx.Client(base_url=URL, transport=httpx.MockTransport(noting)) as http:
        found = [event.id for event in Driver(http).iterate(events("/v1/jobs/job_1/events"))]
    assert found == [1, 2, 3, 4, 5, 6]
    assert [last for last, _ in asked if last] == ["1", "4", "4", "5"]


def test_events_are_read_however_the_stream_is_cut() -> None:
    stream = sent(1, 2, 3)
    for at in range(1, len(stream)):
        lines = Lines()
        found = [*lines.feed(stream[:at]), *lines.feed(stream[at:])]
        assert [event.id for event in found] == [1, 2, 3]


def test_an_event_is_a_line() -> None:
    data = {"epoch": 2, "logs": {"loss": 0.123456, "acc": None}, "kept": [1, 2]}
    said = line(Event(id=1, at=0.0, kind="epoch", data=data))
    assert said[9:] == "epoch: epoch 2, loss 0.1235, kept 1 2"


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.slug)
def test_every_problem_comes_back_as_its_own_error(kind: type[SecateurError]) -> None:
    if kind.__module__ != "app.domain.errors":
        return
    told = kind("What.", field="a.b", errors=({"field": "a.b", "detail": "What."},)).as_problem()
    error = error_of(told | {"status": 400})
    assert type(error) is kind
    assert error.as_problem() == told


def test_a_problem_of_a_newer_service_is_an_error_too() -> None:
    assert type(error_of({"type": "/problems/new", "detail": "New."})) is RequestFailed


def test_where_it_is_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECATEUR_URL", raising=False)
    monkeypatch.delenv("SECATEUR_API_KEY", raising=False)
    assert settings(None, None)["base_url"] == "http://127.0.0.1:8000"
    assert settings(None, None)["headers"] == {}
    monkeypatch.setenv("SECATEUR_URL", "https://a.example")
    monkeypatch.setenv("SECATEUR_API_KEY", "sct_x\n")
    assert settings(None, None)["base_url"] == "https://a.example"
    assert settings(None, None)["headers"] == {"Authorization": "Bearer sct_x"}
    assert settings("http://b", "sct_y")["headers"] == {"Authorization": "Bearer sct_y"}
    with pytest.raises(InvalidRequest, match="http://"):
        settings("b.example", None)
    with pytest.raises(InvalidRequest, match="ASCII"):
        settings(None, "sct_é")
