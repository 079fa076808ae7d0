"""What an error looks like, and that every attack is answered by one."""

import json
from typing import Any

import pytest

from app.api import telemetry
from app.api.problems import FINDINGS, field_path
from app.services.uploads import Uploads
from tests.app.api.conftest import SPEC, Api, check_problem, raw


def post(api: Api, body: bytes | str, **headers: str) -> dict[str, Any]:
    answer = api.post(
        "/v1/jobs", content=body, headers={"content-type": "application/json"} | headers
    )
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return check_problem(answer)


def spec_with(path: str, value: Any) -> str:
    """The spec as JSON, with a value at a dotted path; the value is JSON already."""
    spec: Any = json.loads(json.dumps(SPEC))
    *parents, last = path.split(".")
    at = spec
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = "@"
    return json.dumps(spec).replace('"@"', value)


# --- shape -------------------------------------------------------------------------------------
def test_a_problem_names_the_field_as_the_user_wrote_it(api: Api) -> None:
    problem = post(api, spec_with("prune.target.remove", "50"))
    assert problem["type"] == "/problems/invalid-spec"
    assert problem["field"] == "prune.target.remove"
    assert problem["instance"] == "/v1/jobs"
    assert (problem["fault"], problem["retryable"]) == ("client", False)
    assert problem["detail"] == (
        "prune.target.remove: a share is a fraction between 0 and 1, not a percent; got 50."
    )
    assert problem["errors"] == [
        {
            "field": "prune.target.remove",
            "detail": "a share is a fraction between 0 and 1, not a percent; got 50",
        }
    ]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("prune.granularity", '"magic"', "prune.granularity"),
        ("prune.criterion", '{"kind": "threshold", "quality": -1}', "prune.criterion.quality"),
        ("prune.layers", '[{"match": "a", "skip": true}, {"match": ""}]', "prune.layers.1.match"),
        ("schedule", '{"kind": "iterative", "steps": 0}', "schedule.steps"),
        ("fine_tune.optimizer", '{"kind": "sgd", "momentum": 1}', "fine_tune.optimizer.momentum"),
        ("prune.target", '{"kind": "macs", "keep": "x"}', "prune.target.keep"),
        ("prune.target", '{"kind": "fraction", "remove": 0.5, "x": 1}', "prune.target.x"),
        ("kind", "1", "kind"),
    ],
)
def test_union_tags_are_left_out(api: Api, path: str, value: str, field: str) -> None:
    problem = post(api, spec_with(path, value))
    assert problem["field"] == field


@pytest.mark.parametrize(
    ("location", "body", "expected"),
    [
        (("prune", "target", "fraction", "remove"), SPEC, "prune.target.remove"),
        (("criterion", "l1"), {"criterion": "l1"}, "criterion"),
        (("layers", 1, "match"), {"layers": [{}, {}]}, "layers.1.match"),
        (("layers", 5, "match"), {"layers": []}, "layers.5.match"),
        (("a", "b"), None, "a.b"),
        ((), {}, ""),
    ],
)
def test_field_path(location: tuple[Any, ...], body: Any, expected: str) -> None:
    assert field_path(location, body) == expected


def test_several_findings_are_all_listed(api: Api) -> None:
    problem = post(api, '{"model": "x", "seed": -1}')
    assert {found["field"] for found in problem["errors"]} == {"model", "prune", "seed"}
    assert "(2 more under errors)" in problem["detail"]


def test_a_small_request_gets_no_huge_answer(api: Api) -> None:
    body = json.dumps(SPEC | {f"f{number}": 1 for number in range(20_000)})
    problem = post(api, body)
    assert len(problem["errors"]) == FINDINGS
    assert "19999 more" in problem["detail"]


def test_the_spec_s_own_rules_are_told_in_words(api: Api) -> None:
    problem = post(api, spec_with("prune.granularity", '"weight"').replace("fraction", "macs"))
    assert "keep" in str(problem["errors"])
    problem = post(api, json.dumps({"model": "mdl_example", "prune": {}}))
    assert "target is missing" in problem["detail"]
    assert "Value error" not in problem["detail"]


def test_the_address_of_a_problem_describes_it(api: Api) -> None:
    kind = post(api, "{}")["type"]
    described = api.get(kind).json()
    assert described["type"] == kind
    assert described["status"] == 422
    assert described["description"]
    assert api.get("/problems/none").status_code == 404


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/jobs/x/y", "/examples/none"])
def test_an_unknown_path_is_a_problem(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert check_problem(answer)["instance"] == path


def test_an_unknown_method_is_a_problem(api: Api) -> None:
    answer = api.put("/v1/jobs")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) & {"GET", "POST"}
    check_problem(answer)


def test_an_instance_is_a_reference(api: Api) -> None:
    assert check_problem(api.get("/v1/jobs/a%20b"))["instance"] == "/v1/jobs/a%20b"


# --- attacks -----------------------------------------------------------------------------------
BODIES = {
    "empty": b"",
    "cut off": b'{"model": ',
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "text": b'"x"',
    "deep list": b'{"model":"mdl_1","prune":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep list within the parser's limit": b'{"prune":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep object": b'{"a":' * 100_000,
    "no UTF-8": b'{"model":"\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"model":"x"}',
    "UTF-16": '{"model":"x"}'.encode("utf-16"),
    "NaN": spec_with("prune.target.remove", "NaN"),
    "Infinity": spec_with("fine_tune.early_stopping", '{"min_delta": Infinity}'),
    "1e999": spec_with("fine_tune.early_stopping", '{"min_delta": 1e999}'),
    "-Infinity": spec_with("seed", "-Infinity"),
    "65 bits": spec_with("seed", str(2**65)),
    "5000 digits": spec_with("seed", "9" * 5000),
    "time of 400 digits": spec_with("time_limit_seconds", "9" * 400),
    "surrogate": spec_with("prune.layers", r'[{"match":"\ud800","skip":true}]'),
    "surrogate as key": spec_with("x", r'{"\ud800":1}'),
    "surrogate as field": rb'{"\ud800":1}',
    "NUL": spec_with("prune.layers", r'[{"match":"[!\u0000]*","skip":true}]'),
    "NUL as id": spec_with("model", r'"mdl_\u0000"'),
    "NUL as field": rb'{"\u0000":1}',
    "kind is a list": spec_with("prune.target", '{"kind":[]}'),
    "kind is an object": spec_with("prune.criterion", '{"kind":{"kind":"l1"}}'),
    "kind is null": spec_with("prune.granularity", '{"kind":null}'),
    "long string": spec_with("model", '"' + "x" * 500_000 + '"'),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_hostile_body_is_refused(any_api: Api, body: bytes | str) -> None:
    problem = post(any_api, body)
    assert problem["type"] == "/problems/invalid-spec"
    assert len(problem["detail"]) < 1500


def test_a_body_that_is_not_declared_as_json_says_so(api: Api) -> None:
    problem = post(api, json.dumps(SPEC), **{"content-type": "text/plain"})
    assert "Content-Type: application/json" in problem["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/%00",
        "/v1/models/a%00b",
        "/v1/datasets/%00",
        "/v1/jobs/%00/events",
        "/v1/jobs/%00/artifacts",
        "/v1/jobs/job_example/artifacts/%00",
        "/v1/jobs?cursor=%00",
        "/v1/jobs?model=%00",
        "/v1/jobs?dataset=%00",
        "/v1/models?filename=%00",
        "/v1/datasets?cursor=%00",
        "/v1/jobs/" + "x" * 65,
        "/v1/models?cursor=" + "x" * 5000,
        "/v1/models?sha256=" + "X" * 64,
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=-1",
        "/v1/jobs?limit=201",
        "/v1/jobs?limit=99999999999999999999",
        "/v1/jobs?limit=x",
        "/v1/jobs?status=paused",
        "/v1/jobs/job_example/events?after=-1",
        "/v1/jobs/job_example/events?after=99999999999999999999",
        "/v1/jobs/job_example/events?after=" + "9" * 5000,
    ],
)
def test_a_hostile_parameter_is_refused(any_api: Api, path: str) -> None:
    answer = any_api.get(path, headers={"accept": "application/json"})
    assert answer.status_code == 422
    problem = check_problem(answer)
    assert problem["type"] == "/problems/invalid-parameter"
    assert problem["field"]


@pytest.mark.parametrize("id_", ["%ff", "%ed%a0%80", "..%2e", "%F0%9F%8C%B3", "'--", "%25", "%22"])
def test_a_strange_id_is_not_found(any_api: Api, id_: str) -> None:
    for path in ("/v1/models/", "/v1/datasets/", "/v1/jobs/"):
        assert any_api.get(path + id_).status_code == 404
        assert any_api.delete(path + id_).status_code == 404
    assert any_api.post(f"/v1/jobs/{id_}/cancel").status_code == 404
    assert any_api.get(f"/v1/jobs/{id_}/events").status_code == 404


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_bad_key_is_refused(api: Api, key: str) -> None:
    assert post(api, json.dumps(SPEC), **{"idempotency-key": key})["field"] == "Idempotency-Key"


@pytest.mark.parametrize("host", [b"[", b"a b", b"[::1", b"x:99999999", b"\xff", b"a/../b"])
def test_a_hostile_host_breaks_nothing(api: Api, host: bytes) -> None:
    request = b"GET /v1/jobs/none HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    with raw(api, request) as connection:
        assert connection.recv(100).split()[1] in (b"403", b"400")


def test_a_defect_is_a_problem_with_the_request_s_id(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    logged = []
    monkeypatch.setattr(telemetry.log, "exception", lambda event, **_: logged.append(event))
    monkeypatch.setattr(Uploads, "models", broken)
    with api.expecting(500):
        answer = api.get("/v1/models", headers={"x-request-id": "mine"})
    assert answer.status_code == 500
    assert check_problem(answer)["type"] == "/problems/internal"
    assert answer.headers["x-request-id"] == "mine"
    assert "secret" not in answer.text
    assert logged == ["unhandled"]
