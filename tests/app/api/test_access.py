"""With keys: every route of the description, walked by strangers, readers and other owners."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import func, update

from app.adapters.database import JobRow
from app.api import events
from app.api.access import is_loopback
from app.client import Secateur, Unauthenticated
from app.domain.job import ArtifactFile, Status
from app.domain.people import Scope
from app.services import lifecycle
from app.services.examples import MODEL_FILE
from app.settings import Settings
from tests.app.api.conftest import SPEC, Api, check_problem, raw, serve
from tests.servers import free_port

BOTH = (Scope.READ, Scope.WRITE)
OPEN = {"GET /healthz", "GET /readyz", "GET /problems/{slug}"}
HOOK = {"url": "https://hooks.example/secateur"}
JSON = {"accept": "application/json"}

TUS = {
    "tus-resumable": "1.0.0",
    "content-type": "application/offset+octet-stream",
    "upload-offset": "0",
}


@dataclass
class Guarded:
    """A service that asks for keys, and what alice has in it."""

    api: Api
    keys: dict[str, str]
    ids: dict[str, str]

    def send(self, who: str | None, method: str, path: str, **parts: Any) -> httpx.Response:
        headers = parts.pop("headers", {}) | JSON
        if path.startswith("/v1/uploads"):
            headers |= TUS
        if who is not None:
            headers["authorization"] = f"Bearer {self.keys[who]}"
        return self.api.request(method, path, headers=headers, **parts)

    def operations(self) -> list[tuple[str, str, str]]:
        """Name, method and path, with alice's ids in it, of each described operation."""
        names = {"name": "log.txt", "kind": "svg", "slug": "not-found"} | self.ids
        return [
            (f"{method.upper()} {template}", method, re.sub(r"{(\w+)}", _filled(names), template))
            for template, methods in self.api.document["paths"].items()
            for method in methods
        ]


def _filled(names: dict[str, str]) -> Any:
    return lambda found: names[found[1]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def guarded(
    request: pytest.FixtureRequest, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("guarded"),
        broker_url=broker_url,
        database_url=request.getfixturevalue("postgres_url")
        if request.param == "postgresql"
        else "",
        require_keys="always",
        plan_timeout_seconds=0.1,
        requests_per_minute=0,
        refused_per_minute=0,
    )
    with serve(settings) as api:
        keys = api.context.keys
        made = {
            "alice": keys.create("alice", BOTH).key,
            "reader": keys.create("alice", (Scope.READ,)).key,
            "writer": keys.create("alice", (Scope.WRITE,)).key,
            "bob": keys.create("bob", BOTH).key,
            "operator": keys.create("operator", (Scope.ADMIN,)).key,
        }
        yield Guarded(api, made, _things_of_alice(api, made["alice"]))


def _things_of_alice(api: Api, key: str) -> dict[str, str]:
    headers = {"authorization": f"Bearer {key}"}
    model = api.model(**headers)["id"]
    dataset = api.dataset(**headers)["id"]
    spec = SPEC | {"model": model, "dataset": dataset}
    job = api.post("/v1/jobs", json=spec, headers=headers).json()["id"]
    _finish(api, job)
    body = {"base": spec, "grid": {"seed": [1, 2]}}
    sweep = api.post("/v1/sweeps", json=body, headers=headers).json()["id"]
    said = headers | TUS | {"upload-length": "9", "upload-metadata": "kind bW9kZWw="}
    upload = api.post("/v1/uploads", headers=said).headers["location"].rsplit("/", 1)[-1]
    hook = api.post("/v1/webhooks", json=HOOK, headers=headers).json()["id"]
    delivery = api.post(f"/v1/webhooks/{hook}/test", headers=headers).json()["id"]
    return {
        "model_id": model,
        "dataset_id": dataset,
        "job_id": job,
        "sweep_id": sweep,
        "upload_id": upload,
        "webhook_id": hook,
        "delivery_id": delivery,
    }


def _finish(api: Api, job: str) -> None:
    file = api.context.settings.data_dir / "log.txt"
    file.write_bytes(b"what happened")
    blob = api.context.store.put_file(f"jobs/{job}/a1/log.txt", file)
    artifact = ArtifactFile(
        name="log.txt", key=blob.key, bytes=blob.bytes, sha256=blob.sha256, media_type="text/plain"
    )
    attempt = api.attempt(job)
    lifecycle.finish(api.context.database, attempt, Status.SUCCEEDED, artifacts=[artifact])


# --- every route -------------------------------------------------------------------------------
def test_strangers_learn_health_and_documentation_only(guarded: Guarded) -> None:
    walked = set()
    for name, method, path in guarded.operations():
        answer = guarded.send(None, method, path)
        walked.add(name)
        if name in OPEN:
            assert answer.status_code == 200, name
            continue
        assert answer.status_code == 401, name
        assert check_problem(answer)["type"] == "/problems/unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="secateur"'
    assert len(walked) > 25
    assert walked > OPEN


def test_a_reading_key_reads_and_no_more(guarded: Guarded) -> None:
    for name, method, path in guarded.operations():
        answer = guarded.send("reader", method, path)
        if name in OPEN:
            continue
        if method == "get" and name != "GET /metrics":
            # The analysis asks a worker, and there is none here; there is no schema "log.txt".
            expected = {"GET /v1/models/{model_id}/analysis": 503, "GET /v1/schemas/{name}": 404}
            assert answer.status_code == expected.get(name, 200), (name, answer.text)
            continue
        assert answer.status_code == 403, name
        assert check_problem(answer)["type"] == "/problems/forbidden"
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_a_writing_key_does_not_read(guarded: Guarded) -> None:
    assert guarded.send("writer", "GET", "/v1/jobs").status_code == 403
    assert guarded.send("writer", "POST", "/v1/jobs", json=SPEC).status_code == 202


def test_another_owner_s_ids_are_unknown(guarded: Guarded) -> None:
    walked = 0
    for name, method, path in guarded.operations():
        if not re.search(r"{\w+_id}", name):
            continue
        walked += 1
        answer = guarded.send("bob", method, path)
        assert answer.status_code == 404, (name, answer.text)
        problem = check_problem(answer)
        # And exactly as unknown as what was never there.
        known = next(id_ for id_ in guarded.ids.values() if id_ in path)
        unknown = known[:-1] + ("0" if known[-1] != "0" else "1")
        never = check_problem(guarded.send("bob", method, path.replace(known, unknown)))
        assert {k: str(v).replace(unknown, known) for k, v in never.items()} == {
            k: str(v) for k, v in problem.items()
        }, name
    assert walked >= 15
    for path in ("models", "datasets", "jobs", "sweeps", "uploads", "webhooks"):
        id_ = guarded.ids[f"{path.rstrip('s')}_id"]
        assert guarded.send("alice", "GET", f"/v1/{path}/{id_}").json()["id"] == id_


def test_another_owner_s_ids_cannot_be_used(guarded: Guarded) -> None:
    for field, id_ in (("model", "model_id"), ("dataset", "dataset_id")):
        spec = SPEC | {field: guarded.ids[id_]}
        for path, body in (
            ("/v1/jobs", spec),
            ("/v1/specs/validate", spec),
            ("/v1/sweeps", {"specs": [spec]}),
        ):
            answer = guarded.send("bob", "POST", path, json=body)
            assert answer.status_code == 422, path
            assert "There is no" in check_problem(answer)["detail"]


def test_lists_show_one_s_own(guarded: Guarded) -> None:
    for path in ("models", "datasets", "jobs", "sweeps", "uploads", "webhooks"):
        id_ = guarded.ids[f"{path.rstrip('s')}_id"]
        mine = guarded.send("reader", "GET", f"/v1/{path}?limit=200").json()["items"]
        theirs = guarded.send("bob", "GET", f"/v1/{path}?limit=200").json()["items"]
        assert id_ in {item["id"] for item in mine}
        assert not {item["id"] for item in mine} & {item["id"] for item in theirs}
    by_model = f"/v1/jobs?model={guarded.ids['model_id']}"
    assert guarded.send("bob", "GET", by_model).json()["items"] == []
    assert guarded.send("reader", "GET", by_model).json()["items"]


def test_the_examples_are_each_owner_s(guarded: Guarded) -> None:
    seen = {}
    for who in ("alice", "bob"):
        job = guarded.send(who, "GET", "/v1/jobs/job_example").json()
        assert guarded.send(who, "GET", f"/v1/models/{job['model']}").status_code == 200
        assert guarded.send(who, "GET", f"/v1/jobs/{job['id']}").json()["id"] == job["id"]
        submitted = guarded.send(who, "POST", "/v1/jobs", json=SPEC).json()
        assert submitted["model"] == job["model"]
        found = guarded.send(who, "GET", "/v1/jobs?model=mdl_example").json()["items"]
        assert submitted["id"] in {item["id"] for item in found}
        seen[who] = job["id"]
    assert seen["alice"] != seen["bob"]
    assert guarded.send("bob", "GET", f"/v1/jobs/{seen['alice']}").status_code == 404


def test_figures_of_the_whole_service_are_for_its_operator(guarded: Guarded) -> None:
    assert guarded.send("operator", "GET", "/metrics").status_code == 200
    assert guarded.send("alice", "GET", "/metrics").status_code == 403
    assert guarded.send("operator", "GET", "/v1/jobs").status_code == 403


# --- keys --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer sct_é", f"Bearer sct_{'0' * 12}_"]
)
def test_what_is_no_key_opens_nothing(guarded: Guarded, header: str) -> None:
    answer = guarded.api.get("/v1/jobs", headers={b"authorization": header.encode()})
    assert answer.status_code == 401
    check_problem(answer)


def test_a_key_in_the_address_opens_nothing(guarded: Guarded) -> None:
    key = guarded.keys["alice"]
    for path in (f"/v1/jobs?key={key}", f"/v1/jobs?access_token={key}"):
        assert guarded.api.get(path).status_code == 401


def test_a_revoked_key_opens_nothing_any_more(guarded: Guarded) -> None:
    keys = guarded.api.context.keys
    created = keys.create("carol", BOTH)
    headers = {"authorization": f"bearer {created.key}"}
    assert guarded.api.get("/v1/jobs", headers=headers).status_code == 200
    keys.revoke(created.info.id)
    answer = guarded.api.get("/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_stranger_s_body_is_not_waited_for(guarded: Guarded) -> None:
    request = "POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with raw(guarded.api, request.encode()) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/", "/V1/jobs", "//v1/jobs", "/healthz/x"])
def test_what_is_not_known_is_closed(guarded: Guarded, path: str) -> None:
    assert guarded.api.get(path).status_code == 401


def test_the_client_sends_its_key(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(guarded.api.base_url)
    with Secateur(url, guarded.keys["bob"]) as client:
        assert client.models.upload(MODEL_FILE).id.startswith("mdl_")
    with Secateur(url) as client, pytest.raises(Unauthenticated, match="No API key"):
        client.jobs.get("job_example")
    monkeypatch.setenv("SECATEUR_API_KEY", guarded.keys["bob"])
    with Secateur(url) as client:
        assert client.jobs.get("job_example").state.spec


# --- the description ---------------------------------------------------------------------------
def test_the_description_asks_for_a_bearer_key(guarded: Guarded) -> None:
    document = guarded.api.document
    scheme = document["components"]["securitySchemes"]["apiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            assert ("security" not in operation) == (name in OPEN), name
            if name not in OPEN:
                assert operation["security"] == [{"apiKey": []}]
                assert {"401", "403", "429"} <= operation["responses"].keys()


def test_without_keys_they_are_an_option(api: Api) -> None:
    assert api.document["paths"]["/v1/jobs"]["get"]["security"] == [{"apiKey": []}, {}]


# --- requests per minute -----------------------------------------------------------------------
@pytest.fixture
def two(broker: "redis.Redis", broker_url: str, tmp_path: Path) -> Iterator[tuple[Api, Api]]:
    """Two processes' worth of API on one database and one broker, ten requests a minute."""
    settings = Settings(
        data_dir=tmp_path, broker_url=broker_url, require_keys="always", requests_per_minute=10
    )
    with serve(settings) as first, serve(settings) as second:
        yield first, second


def test_strangers_are_slowed_down_by_address_and_no_key_with_them(
    broker: "redis.Redis", broker_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path, broker_url=broker_url, require_keys="always", refused_per_minute=5
    )
    with serve(settings) as api:

        def ask(address: str, key: str | None = None) -> httpx.Response:
            headers = {"x-forwarded-for": address}
            if key is not None:
                headers["authorization"] = f"Bearer {key}"
            return api.get("/v1/jobs", headers=headers)

        made = api.context.keys.create("alice", BOTH)
        wrong = made.key[:-1] + ("0" if made.key[-1] != "0" else "1")
        said = [ask("192.0.2.1", each).status_code for each in (None, wrong, "x", None, wrong)]
        assert said == [401] * 5
        refused = ask("192.0.2.1", wrong)
        assert refused.status_code == 429
        problem = check_problem(refused)
        assert "SECATEUR_REFUSED_PER_MINUTE" in problem["detail"]
        assert int(refused.headers["retry-after"]) >= 1
        # A valid key is let in from the same address, and others' addresses are their own.
        assert ask("192.0.2.1", made.key).status_code == 200
        assert ask("192.0.2.2").status_code == 401
        # What IPv6 gives one client counts as one.
        for number in range(5):
            assert ask(f"2001:db8:1:1::{number}").status_code == 401
        assert ask("2001:db8:1:1:9::").status_code == 429
        assert ask("2001:db8:1:2::").status_code == 401


def test_a_stream_ends_soon_after_its_key(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEY_CHECK_SECONDS", 0.2)
    created = guarded.api.context.keys.create("alice", BOTH)
    headers = {"authorization": f"Bearer {created.key}"}
    spec = SPEC | {"model": guarded.ids["model_id"], "dataset": guarded.ids["dataset_id"]}
    job = guarded.api.post("/v1/jobs", json=spec, headers=headers).json()["id"]
    with guarded.api.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        lines = answer.iter_lines()
        assert any(line.startswith("event: queued") for line in lines)
        time.sleep(0.5)  # A few looks at a key that is valid.
        guarded.api.context.keys.revoke(created.info.id)
        words = [line for line in lines if line.startswith(":") and line != ": ping"]
        assert words == [": the key is no longer valid"]
    guarded.send("alice", "POST", f"/v1/jobs/{job}/cancel")


def test_the_limit_holds_across_processes(two: tuple[Api, Api]) -> None:
    keys = two[0].context.keys
    alice = {"authorization": f"Bearer {keys.create('alice', BOTH).key}"}
    again = {"authorization": f"Bearer {keys.create('alice', BOTH).key}"}
    left = []
    for number in range(10):
        answer = two[number % 2].get("/v1/capabilities", headers=alice)
        assert answer.status_code == 200, number
        assert answer.headers["ratelimit-policy"] == '"requests";q=10;w=60'
        left.append(int(answer.headers["ratelimit"].split(";")[1].removeprefix("r=")))
    assert left == list(range(9, -1, -1))
    for api, headers in ((two[0], alice), (two[1], alice), (two[1], again)):
        answer = api.get("/v1/capabilities", headers=headers)
        assert answer.status_code == 429
        problem = check_problem(answer)
        assert problem["type"] == "/problems/too-many-requests"
        assert problem["retryable"] is True
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert '"requests";r=0;t=' in answer.headers["ratelimit"]
    bob = {"authorization": f"Bearer {keys.create('bob', BOTH).key}"}
    assert two[0].get("/v1/capabilities", headers=bob).status_code == 200
    assert two[0].get("/healthz").status_code == 200


def test_the_limit_holds_for_requests_at_once(two: tuple[Api, Api]) -> None:
    key = two[0].context.keys.create("alice", BOTH).key
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(
            lambda number: (
                httpx.get(
                    f"{two[number % 2].base_url}/v1/schemas/spec",
                    headers={"authorization": f"Bearer {key}"},
                    trust_env=False,
                ).status_code
            ),
            range(24),
        )
        assert sorted(answers) == [200] * 10 + [429] * 14


def test_a_broker_that_is_away_refuses_nobody(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        broker_url=f"redis://127.0.0.1:{free_port()}/0",
        require_keys="always",
        requests_per_minute=1,
    )
    with serve(settings) as api:
        headers = {"authorization": f"Bearer {api.context.keys.create('alice', BOTH).key}"}
        for _ in range(3):
            answer = api.get("/v1/capabilities", headers=headers)
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers


# --- quotas ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def small(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("small"),
        broker_url=broker_url,
        quota_stored_bytes=2_000_000,
        quota_queued_jobs=2,
        quota_queued_questions=1,
        plan_timeout_seconds=0.3,
    )
    with serve(settings) as api:
        yield api


def test_a_full_store_is_said_before_the_upload(small: Api) -> None:
    request = "POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    request += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with raw(small, request.encode()) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 507")


@pytest.mark.parametrize("declared", [True, False])
def test_a_full_store_is_said_while_it_comes(small: Api, declared: bool) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="m.keras"\r\n\r\n'
    body = head + b"x" * 2_400_000 + b"\r\n--x--\r\n"
    answer = small.post(
        "/v1/models",
        content=body if declared else iter([body[:1_000_000], body[1_000_000:]]),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 507
    problem = check_problem(answer)
    assert problem["type"] == "/problems/storage-full"
    assert "Delete models" in problem["detail"]


def test_too_many_jobs_are_said_with_when_to_try_again(small: Api) -> None:
    small.job()
    small.job()
    for path, body in (
        ("/v1/jobs", SPEC),
        ("/v1/sweeps", {"base": SPEC, "grid": {"seed": [1, 2]}}),
    ):
        answer = small.post(path, json=body)
        assert answer.status_code == 429
        assert check_problem(answer)["type"] == "/problems/too-many-jobs"
        assert int(answer.headers["retry-after"]) > 0
    with small.context.database.write() as session:
        session.execute(update(JobRow).values(state=Status.FAILED, finished_at=func.clock()))


def test_too_many_questions_are_said(small: Api) -> None:
    with ThreadPoolExecutor(3) as pool:
        statuses = sorted(
            answer.status_code
            for answer in pool.map(
                lambda _: httpx.post(
                    f"{small.base_url}/v1/specs/validate", json=SPEC, trust_env=False
                ),
                range(3),
            )
        )
    # There is no worker here: the one that was asked ends without an answer.
    assert statuses == [429, 429, 503]


# --- without keys ------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "", "localhost.example", "127.0.0.1.example", "/run/sock"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_name_that_points_here_is_not_served(api: Api) -> None:
    for name in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        answer = api.get("/v1/jobs", headers={"host": name})
        assert answer.status_code == 403
        assert "SECATEUR_REQUIRE_KEYS" in check_problem(answer)["detail"]
    for name in ("localhost", "localhost:1234", "[::1]:80", "127.0.0.1"):
        assert api.get("/v1/jobs", headers={"host": name}).status_code == 200
    assert api.get("/healthz", headers={"host": "probe"}).status_code == 200


def test_a_foreign_page_sends_nothing(api: Api) -> None:
    job = api.job()
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = api.post(f"/v1/jobs/{job}/cancel", headers={"origin": origin})
        assert answer.status_code == 403, origin
    assert api.get(f"/v1/jobs/{job}").json()["status"] == "queued"
    own = str(api.base_url).rstrip("/")
    answer = api.post(f"/v1/jobs/{job}/cancel", headers={"origin": own})
    assert answer.status_code == 202


def test_keys_may_be_waived(broker_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=broker_url, require_keys="never")
    with serve(settings) as api:
        assert api.get("/v1/jobs", headers={"host": "secateur.example"}).status_code == 200
