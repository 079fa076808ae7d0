"""The client shows its key, and waits as long as the service asks for."""

from collections.abc import Callable

import httpx
import pytest

from app.client import ATTEMPTS, LONGEST_PAUSE_SECONDS, Client, RequestFailed

URL = "http://127.0.0.1:1"
PROBLEM = {"detail": "Too many requests."}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def client(answer: Callable[[httpx.Request], httpx.Response], key: str = "") -> Client:
    made = Client(URL, key)
    headers = made._http.headers
    made._http.close()
    transport = httpx.MockTransport(answer)
    made._http = httpx.Client(base_url=URL, transport=transport, headers=headers)
    return made


def test_a_busy_service_is_asked_again_when_it_says(pauses: list[float]) -> None:
    answers = iter(
        [
            httpx.Response(429, headers={"retry-after": "7"}, json=PROBLEM),
            httpx.Response(429, headers={"retry-after": "9999"}, json=PROBLEM),
            httpx.Response(202, json={"id": "job_1"}),
        ]
    )
    keys = set()

    def answer(request: httpx.Request) -> httpx.Response:
        keys.add(request.headers["idempotency-key"])
        return next(answers)

    with client(answer) as asking:
        assert asking.submit({})["id"] == "job_1"
    assert pauses == [7.0, LONGEST_PAUSE_SECONDS]
    assert len(keys) == 1


def test_it_is_not_asked_for_ever(pauses: list[float]) -> None:
    with (
        client(lambda _: httpx.Response(429, json=PROBLEM)) as asking,
        pytest.raises(RequestFailed, match="Too many requests"),
    ):
        asking.job("job_1")
    assert len(pauses) == ATTEMPTS - 1


def test_what_is_not_allowed_is_not_tried_again(pauses: list[float]) -> None:
    with (
        client(lambda _: httpx.Response(401, json={"detail": "No."})) as asking,
        pytest.raises(RequestFailed),
    ):
        asking.job("job_1")
    assert pauses == []


@pytest.mark.parametrize("given", ["option", "environment"])
def test_the_key_goes_with_every_request(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"done": True})

    monkeypatch.setenv("SECATEUR_API_KEY", "" if given == "option" else "sct_x\n")
    with client(answer, "sct_x" if given == "option" else "") as asking:
        asking.job("job_1")
    assert seen == ["Bearer sct_x"]


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECATEUR_API_KEY", raising=False)
    with Client(URL) as asking:
        assert "authorization" not in asking._http.headers


def test_a_key_is_ascii() -> None:
    with pytest.raises(RequestFailed, match="ASCII"):
        Client(URL, "sct_é")
