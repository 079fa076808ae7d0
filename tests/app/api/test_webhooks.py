"""/v1/webhooks over HTTP, and what the description says of it."""

from typing import Any

import pytest

from app.services.sender import Sender
from app.settings import Settings
from tests.app.api.conftest import Api, check_problem, serve
from tests.app.receivers import receiver

URL = "https://hooks.example/secateur"


def create(api: Api, **parts: Any) -> dict[str, Any]:
    answer = api.post("/v1/webhooks", json={"url": URL} | parts)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/webhooks/{answer.json()['id']}"
    return dict(answer.json())


def refused(api: Api, body: Any) -> dict[str, Any]:
    answer = api.post("/v1/webhooks", json=body)
    assert answer.status_code == 422, answer.text
    problem = check_problem(answer)
    assert problem["type"] == "/problems/invalid-webhook"
    return problem


def test_the_secret_is_shown_at_creation_and_rotation_only(any_api: Api) -> None:
    made = create(any_api, events=["job.failed"])
    path = f"/v1/webhooks/{made['id']}"
    rotated = any_api.post(f"{path}/rotate", json={"grace_hours": 1}).json()
    assert made["secret"].startswith("whsec_")
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["old_secret_until"]
    for answer in (
        any_api.get(path),
        any_api.get("/v1/webhooks"),
        any_api.patch(path, json={"enabled": False}),
        any_api.post(f"{path}/test"),
        any_api.get(f"{path}/deliveries"),
    ):
        assert answer.is_success
        assert "whsec_" not in answer.text
    assert any_api.get(path).json()["events"] == ["job.failed"]
    assert any_api.get(path).json()["enabled"] is False
    assert any_api.delete(path).status_code == 204
    assert any_api.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "url", "missing"),
        ({"url": "http://hooks.example/"}, "url", "begins with https"),
        ({"url": "https://10.0.0.1/"}, "url", "not a public address"),
        ({"url": URL, "events": ["job.started"]}, "events.0", "job.succeeded"),
        ({"url": URL, "events": []}, "events", "at least 1"),
        ({"url": URL, "secret": "mine"}, "secret", "no such field"),
        ({"url": "https://hooks.example/" + "x" * 2000}, "url", "2000"),
    ],
)
def test_what_is_wrong_is_said(api: Api, body: Any, field: str, said: str) -> None:
    problem = refused(api, body)
    assert problem["field"] == field
    assert said in problem["detail"]


def test_a_changed_url_is_looked_at_too(api: Api) -> None:
    path = f"/v1/webhooks/{create(api)['id']}"
    assert api.patch(path, json={"url": "https://[::1]/"}).status_code == 422
    assert api.get(path).json()["url"] == URL
    assert api.patch(path, json={"url": URL + "2"}).json()["url"] == URL + "2"


def test_a_ping_under_a_key_is_written_once(api: Api) -> None:
    path = f"/v1/webhooks/{create(api)['id']}"
    first, again = (
        api.post(f"{path}/test", headers={"Idempotency-Key": f"{path}-1"}) for _ in range(2)
    )
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert api.get(first.headers["location"]).json()["id"] == first.json()["id"]
    pages = [api.post(f"{path}/test").json()["id"] for _ in range(2)]
    listed = api.get(f"{path}/deliveries?limit=2").json()
    assert [item["id"] for item in listed["items"]] == pages[::-1]
    rest = api.get(f"{path}/deliveries?limit=2&cursor={listed['next_cursor']}").json()
    assert [item["id"] for item in rest["items"]] == [first.json()["id"]]
    assert api.get(f"{path}/deliveries?status=delivered").json()["items"] == []


def test_an_owner_has_so_many_and_what_arrives_is_listed(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("hooks"),
        broker_url=broker_url,
        quota_webhooks=2,
        webhook_allow_http=True,
        webhook_allow_networks="127.0.0.1",
    )
    with serve(settings) as api, receiver() as there:
        made = create(api, url=there.url)
        create(api)
        answer = api.post("/v1/webhooks", json={"url": URL})
        assert answer.status_code == 409
        assert "SECATEUR_QUOTA_WEBHOOKS" in check_problem(answer)["detail"]
        path = f"/v1/webhooks/{made['id']}"
        api.post(f"{path}/test")
        sender = Sender(api.context.database, settings)
        sender.round()
        sender.wait(10)
        (item,) = api.get(f"{path}/deliveries").json()["items"]
        assert item["status"] == "delivered"
        assert item["log"][0]["response_status"] == 200
        again = api.post(f"{path}/deliveries/{item['id']}/retry")
        assert (again.status_code, again.json()["status"]) == (202, "pending")


def test_the_examples_work(api: Api) -> None:
    path = "/v1/webhooks/whk_example"
    assert api.get(path).json()["enabled"] is False
    assert api.get(f"{path}/deliveries/whd_example").json()["event"] == "webhook.test"
    assert api.post(f"{path}/deliveries/whd_example/retry").status_code == 202
    assert api.post(f"{path}/test").status_code == 202


def test_what_is_sent_is_described(api: Api) -> None:
    described = api.document["webhooks"]
    assert described.keys() == {
        "job.succeeded",
        "job.failed",
        "job.cancelled",
        "sweep.completed",
        "webhook.test",
    }
    for name, methods in described.items():
        operation = methods["post"]
        assert [each["name"] for each in operation["parameters"]] == [
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ], name
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        message = api.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        assert message["required"] == ["type", "timestamp", "data"]
        assert "422" not in operation["responses"]
    assert "HTTPValidationError" not in api.document["components"]["schemas"]
