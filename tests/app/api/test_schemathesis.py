"""Requests made up from the OpenAPI document: no 5xx, and every answer is a documented one."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.settings import Settings
from tests.app.api.conftest import Api, serve

EXAMPLES = 4
"""Requests for each operation; half of them are what its description allows."""
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
NEEDS_A_WORKER = frozenset(
    {"POST /v1/specs/validate", "GET /v1/models/{model_id}/analysis", "GET /readyz"}
)
"""No worker runs here, which these say with a documented 503."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def impatient(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that does not wait for workers."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with serve(Settings(data_dir=folder, broker_url=broker_url, plan_timeout_seconds=0.1)) as api:
        yield api


def check(api: Api, case: Any) -> None:
    label = case.operation.label
    # Without the header, events of a job that no worker takes would never end.
    answer = case.call(
        base_url=str(api.base_url), headers={"accept": "application/json"}, timeout=20
    )
    if label in NEEDS_A_WORKER and answer.status_code == 503:
        return
    assert answer.status_code < 500, (label, answer.content[:500])
    case.validate_response(answer, checks=CHECKS)


def test_made_up_requests_get_documented_answers(impatient: Api) -> None:
    load_all_checks()
    schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
    found = list(schemathesis.openapi.from_dict(impatient.document).get_all_operations())
    assert len(found) > 30
    for item in found:
        assert isinstance(item, Ok), item
        operation = item.ok()
        kinds = [
            operation.as_strategy(generation_mode=mode)
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            if mode is GenerationMode.POSITIVE or list(operation.iter_parameters())
        ]

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(*kinds))
        def send(case: Any) -> None:
            check(impatient, case)

        send()
