"""The published schemas accept what the service reads and writes, and nothing else."""

from typing import Any

import jsonschema
import pytest

from app.api.jobs import EXAMPLES
from app.api.schemas import READ, WRITTEN
from app.api.sweeps import EXAMPLES as SWEEPS
from app.domain.metrics import Metrics
from tests.app.api.conftest import Api, check_problem
from tests.app.plots.test_job import metrics

NAMES = [*READ, *WRITTEN]


def validator(api: Api, name: str) -> jsonschema.Draft202012Validator:
    answer = api.get(f"/v1/schemas/{name}")
    assert answer.headers["content-type"] == "application/schema+json"
    return jsonschema.Draft202012Validator(answer.json())


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_schema_that_stands_by_itself(api: Api, name: str) -> None:
    schema = api.get(f"/v1/schemas/{name}").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:secateur:{name}:v1"
    assert schema["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(
    ("name", "bodies"), [("spec", EXAMPLES), ("sweep", SWEEPS)], ids=["spec", "sweep"]
)
def test_what_is_sent_fits(api: Api, name: str, bodies: dict[str, Any]) -> None:
    known = validator(api, name)
    for example in bodies.values():
        known.validate(example["value"])
    with pytest.raises(jsonschema.ValidationError):
        known.validate({"nothing": "of it"})


def test_the_figures_of_a_job_fit(api: Api) -> None:
    written = metrics().model_dump(mode="json", by_alias=True)
    known = validator(api, "metrics")
    known.validate(written)
    assert set(known.schema["required"]) <= set(written)
    assert Metrics.model_validate(written) == metrics()
    del written["before"]
    with pytest.raises(jsonschema.ValidationError):
        known.validate(written)


def test_another_name_is_refused(api: Api) -> None:
    answer = api.get("/v1/schemas/none")
    assert answer.status_code == 404
    assert "metrics" in str(check_problem(answer))
