"""The description, Swagger UI and the capabilities say what is so."""

import re
from typing import Any, get_args

import jsonschema
import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel

from app.api.jobs import EXAMPLES
from app.domain import criteria, prune, recovery, spec
from tests.app.api.conftest import Api


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    return dict(api.get("/openapi.json").json())


def misfits(answer: Any, schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """What an answer has against a schema of the document."""
    whole = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
    return [f"{error.json_path}: {error.message}" for error in whole.iter_errors(answer)]


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


CONTRACT = {
    "POST /v1/models",
    "GET /v1/models",
    "GET /v1/models/{model_id}",
    "GET /v1/models/{model_id}/analysis",
    "DELETE /v1/models/{model_id}",
    "POST /v1/datasets",
    "GET /v1/datasets",
    "GET /v1/datasets/{dataset_id}",
    "DELETE /v1/datasets/{dataset_id}",
    "POST /v1/uploads",
    "GET /v1/uploads",
    "GET /v1/uploads/{upload_id}",
    "PATCH /v1/uploads/{upload_id}",
    "DELETE /v1/uploads/{upload_id}",
    "POST /v1/jobs",
    "GET /v1/jobs",
    "POST /v1/specs/validate",
    "GET /v1/jobs/{job_id}",
    "DELETE /v1/jobs/{job_id}",
    "POST /v1/jobs/{job_id}/cancel",
    "POST /v1/jobs/{job_id}/retry",
    "GET /v1/jobs/{job_id}/events",
    "GET /v1/jobs/{job_id}/artifacts",
    "GET /v1/jobs/{job_id}/artifacts/{name}",
    "GET /v1/capabilities",
    "GET /v1/schemas/{name}",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
}


def test_the_description_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.")


def test_the_contract_is_described(document: dict[str, Any]) -> None:
    assert {name for name, _ in operations(document)} >= CONTRACT


def test_every_operation_has_a_summary_a_text_and_a_tag(document: dict[str, Any]) -> None:
    bare = [
        name
        for name, operation in operations(document)
        if not all(operation.get(member) for member in ("summary", "description", "tags"))
    ]
    assert bare == []


def test_every_error_is_a_described_problem(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if int(status) >= 400 and name != "GET /readyz":
                assert list(response["content"]) == ["application/problem+json"], (name, status)


def test_what_takes_a_parameter_or_a_body_documents_422(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if operation.get("parameters") or operation.get("requestBody"):
            assert "422" in operation["responses"], name
        if "{" in name:
            assert "404" in operation["responses"], name
        if name.startswith("POST"):
            assert "413" in operation["responses"], name
        if name.startswith("DELETE") and "uploads" not in name:
            assert "409" in operation["responses"], name


def test_the_examples_of_bodies_are_valid(document: dict[str, Any]) -> None:
    found = 0
    for name, operation in operations(document):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            for example in media.get("examples", {}).values():
                found += 1
                assert misfits(example["value"], media["schema"], document) == [], name
                assert example["summary"], name
    assert found >= 2 * len(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_can_be_sent(api: Api, name: str) -> None:
    assert api.post("/v1/jobs", json=EXAMPLES[name]["value"]).status_code == 202


def test_answers_are_what_their_schemas_say(api: Api, document: dict[str, Any]) -> None:
    job = api.job()
    for path, template in {
        f"/v1/jobs/{job}": "/v1/jobs/{job_id}",
        "/v1/jobs": "/v1/jobs",
        "/v1/models/mdl_example": "/v1/models/{model_id}",
        "/v1/models": "/v1/models",
        "/v1/datasets/dts_example": "/v1/datasets/{dataset_id}",
        f"/v1/jobs/{job}/events": "/v1/jobs/{job_id}/events",
        f"/v1/jobs/{job}/artifacts": "/v1/jobs/{job_id}/artifacts",
        "/v1/capabilities": "/v1/capabilities",
        "/readyz": "/readyz",
        "/healthz": "/healthz",
    }.items():
        answer = api.get(path, headers={"accept": "application/json"})
        content = document["paths"][template]["get"]["responses"]["200"]["content"]
        assert misfits(answer.json(), content["application/json"]["schema"], document) == [], path


def test_a_problem_is_what_its_schema_says(api: Api, document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Problem"}
    assert misfits({"status": "four hundred"}, schema, document)
    for answer in (
        api.get("/v1/jobs/none"),
        api.post("/v1/jobs", json={}),
        api.get("/v1/jobs?limit=0"),
    ):
        assert misfits(answer.json(), schema, document) == [], answer.url


# --- Swagger UI --------------------------------------------------------------------------------
@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_need_no_other_host(api: Api, page: str) -> None:
    html = api.get(page).text
    assets = re.findall(r"""(?:src|href)=["']([^"'#]+)["']""", html)
    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        assert not asset.startswith("//"), asset
        answer = api.get(asset)
        assert answer.status_code == 200, asset
        assert answer.content
    assert not re.findall(r"https?://(?!127\.0\.0\.1)[\w.]+/", html)


def test_the_first_page_asks_for_nothing_but_its_own(api: Api) -> None:
    answer = api.get("/")
    assets = re.findall(r'(?:src|href)="([^"#]+)"', answer.text)
    for asset in [each for each in assets if each != "/docs"]:
        assert asset.startswith("./"), asset
        found = api.get(asset.removeprefix("."))
        assert found.status_code == 200, asset
        assert found.content
    assert any("/assets/" in asset for asset in assets)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


# --- capabilities ------------------------------------------------------------------------------
def variants(union: Any) -> dict[str, type[BaseModel]]:
    members = get_args(get_args(union)[0])
    return {member.model_fields["kind"].default: member for member in members}


@pytest.mark.parametrize(
    ("choice", "union"),
    [
        ("granularities", prune.Granularity),
        ("criteria", criteria.Criterion),
        ("targets", prune.Target),
        ("schedules", spec.Schedule),
        ("optimizers", recovery.Optimizer),
        ("learning_rate_schedules", recovery.Rate),
    ],
)
def test_the_capabilities_are_the_variants_of_the_spec(api: Api, choice: str, union: Any) -> None:
    told = {item["kind"]: item for item in api.get("/v1/capabilities").json()[choice]}
    expected = variants(union)
    assert told.keys() == expected.keys()
    for kind, member in expected.items():
        assert told[kind]["description"]
        assert told[kind]["settings"].keys() == member.model_fields.keys() - {"kind"}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("exports", prune.Export),
        ("runtimes", prune.Runtime),
        ("losses", recovery.LossName),
        ("metrics", recovery.MetricName),
        ("scopes", prune.Prune.model_fields["scope"].annotation),
    ],
)
def test_the_capabilities_are_the_names_of_the_spec(api: Api, choice: str, names: Any) -> None:
    told = api.get("/v1/capabilities").json()[choice]
    kinds = [item if isinstance(item, str) else item["kind"] for item in told]
    assert sorted(kinds) == sorted(get_args(names))


def test_the_limits_are_the_settings(api: Api) -> None:
    limits = api.get("/v1/capabilities").json()["limits"]
    settings = api.context.settings
    assert limits["upload_bytes"] == settings.upload_limit_bytes
    assert limits["job_seconds"] == settings.job_time_limit_seconds
    assert limits["attempts"] == settings.max_attempts
    assert limits["stored_bytes"] == settings.quota_stored_bytes
    assert limits["queued_jobs"] == settings.quota_queued_jobs
    assert limits["running_jobs"] == settings.quota_running_jobs
