"""Events by polling and as a stream, both resumed where they broke off."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.job import Status
from app.services import lifecycle
from tests.app.api.conftest import Api, check_problem

JSON = {"accept": "application/json"}


def page(api: Api, job: str, **parameters: Any) -> dict[str, Any]:
    answer = api.get(f"/v1/jobs/{job}/events", headers=JSON, params=parameters)
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


def ended(api: Api, notes: int = 3) -> str:
    """A job with the events queued, running, 1 + 2 + … notes, succeeded."""
    job = api.job()
    attempt = api.attempt(job)
    happened = [("note", {"n": n}) for n in range(notes)]
    lifecycle.report(api.context.database, attempt, None, happened)
    lifecycle.finish(api.context.database, attempt, Status.SUCCEEDED)
    return job


def stream(api: Api, job: str, **headers: str) -> Iterator[dict[str, Any]]:
    """The messages of a stream until the server ends it."""
    with api.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        message: dict[str, Any] = {}
        for line in answer.iter_lines():
            if not line:
                if "data" in message:
                    yield message
                message = {}
                continue
            name, _, value = line.partition(":")
            if name:
                message[name] = value.strip()


# --- JSON --------------------------------------------------------------------------------------
def test_a_page_has_all_events_and_says_whether_more_follow(api: Api) -> None:
    job = api.job()
    got = page(api, job)
    assert [(item["id"], item["kind"]) for item in got["items"]] == [(1, "queued")]
    assert got["done"] is False
    attempt = api.attempt(job)
    lifecycle.finish(api.context.database, attempt, Status.SUCCEEDED)
    got = page(api, job, after=1)
    assert [item["kind"] for item in got["items"]] == ["running", "succeeded"]
    assert got["done"] is True
    assert abs(got["items"][0]["at"] - time.time()) < 10


def test_a_page_starts_after_the_last_seen_event(api: Api) -> None:
    job = ended(api)
    url = f"/v1/jobs/{job}/events"
    by_header = api.get(url, headers=JSON | {"last-event-id": "4"}).json()
    assert [item["id"] for item in by_header["items"]] == [5, 6]
    assert page(api, job, after=4) == by_header
    assert page(api, job, after=10**14) == {"items": [], "done": True}
    both = api.get(f"{url}?after=5", headers=JSON | {"last-event-id": "2"}).json()
    assert [item["id"] for item in both["items"]] == [6]


def test_many_events_come_in_pages(api: Api) -> None:
    job = ended(api, notes=700)
    first = page(api, job)
    assert (len(first["items"]), first["done"]) == (500, False)
    rest = page(api, job, after=first["items"][-1]["id"])
    assert (len(rest["items"]), rest["done"]) == (203, True)


# --- SSE ---------------------------------------------------------------------------------------
def test_a_stream_tells_all_and_ends_with_the_job(api: Api) -> None:
    messages = list(stream(api, ended(api)))
    assert [message["id"] for message in messages] == ["1", "2", "3", "4", "5", "6"]
    assert [message["event"] for message in messages] == [
        "queued",
        "running",
        "note",
        "note",
        "note",
        "succeeded",
    ]
    data = json.loads(messages[3]["data"])
    assert (data["id"], data["kind"], data["data"]) == (4, "note", {"n": 1})


def test_a_long_stream_is_whole(api: Api) -> None:
    assert len(list(stream(api, ended(api, notes=1200)))) == 1203


def test_a_stream_resumes_after_the_last_event_id(api: Api) -> None:
    messages = list(stream(api, ended(api), **{"last-event-id": "4"}))
    assert [message["id"] for message in messages] == ["5", "6"]


def test_a_stream_that_missed_nothing_ends_at_once(api: Api) -> None:
    assert list(stream(api, ended(api), **{"last-event-id": "6"})) == []


def test_events_arrive_as_they_happen(api: Api) -> None:
    job = api.job()
    arrived: list[tuple[str, float]] = []

    def listen() -> None:
        for message in stream(api, job):
            arrived.append((message["event"], time.monotonic()))

    listener = threading.Thread(target=listen)
    listener.start()
    attempt = api.attempt(job)
    time.sleep(0.5)
    assert [kind for kind, _ in arrived] == ["queued", "running"]
    at = time.monotonic()
    lifecycle.finish(api.context.database, attempt, Status.FAILED, error=None)
    listener.join(5)
    assert not listener.is_alive()
    assert arrived[-1][0] == "failed"
    assert arrived[-1][1] - at < 1


def test_the_stream_of_a_deleted_job_ends(api: Api) -> None:
    job = api.job()
    messages = stream(api, job)
    assert next(messages)["event"] == "queued"
    api.post(f"/v1/jobs/{job}/cancel")
    api.delete(f"/v1/jobs/{job}")
    assert [message["event"] for message in messages] in ([], ["cancelled"])


def test_a_client_that_leaves_frees_its_stream(api: Api) -> None:
    job = api.job()
    for _ in range(50):
        assert next(stream(api, job))["event"] == "queued"
    started = time.monotonic()
    assert api.get(f"/v1/jobs/{job}").status_code == 200
    assert time.monotonic() - started < 2


def test_many_streams_leave_room_for_other_requests(api: Api) -> None:
    job = api.job()
    streams = [stream(api, job) for _ in range(60)]
    for messages in streams:
        next(messages)
    started = time.monotonic()
    assert api.get(f"/v1/jobs/{job}").status_code == 200
    assert time.monotonic() - started < 2
    api.post(f"/v1/jobs/{job}/cancel")
    for messages in streams:
        assert [message["event"] for message in messages] == ["cancelled"]


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "9" * 16, "9" * 5000, "\xb2", "1 2", "0x1"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_bad_last_event_id_is_refused(api: Api, number: str, accept: str) -> None:
    answer = api.get(
        f"/v1/jobs/{api_job(api)}/events",
        headers={b"accept": accept.encode(), b"last-event-id": number.encode("latin-1")},
    )
    assert answer.status_code == 422
    assert check_problem(answer)["field"] == "Last-Event-ID"


def api_job(api: Api) -> str:
    items = api.get("/v1/jobs?limit=1").json()["items"]
    return str(items[0]["id"]) if items else api.job()


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "*/*"])
def test_the_events_of_an_unknown_job(api: Api, accept: str) -> None:
    assert api.get("/v1/jobs/job_none/events", headers={"accept": accept}).status_code == 404
