"""/v1/schemas: JSON Schemas of what the service reads and writes, read off the types themselves."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.forms import SchemaName
from app.api.problems import responses
from app.domain.analysis import ModelAnalysis
from app.domain.errors import NotFound
from app.domain.metrics import Metrics, Plan
from app.domain.spec import PruningSpec
from app.domain.sweep import SweepSpec

router = APIRouter(prefix="/v1", tags=["service"], responses=responses(404, 422))

DIALECT = "https://json-schema.org/draft/2020-12/schema"
READ: dict[str, type[BaseModel]] = {"spec": PruningSpec, "sweep": SweepSpec}
WRITTEN: dict[str, type[BaseModel]] = {
    "metrics": Metrics,
    "plan": Plan,
    "analysis": ModelAnalysis,
}


class SchemaResponse(JSONResponse):
    """A JSON Schema, under its own media type."""

    media_type = "application/schema+json"


@router.get(
    "/schemas/{name}",
    summary="JSON Schema of a spec, metrics.json, a plan, an analysis",
    response_class=SchemaResponse,
)
def schema(name: SchemaName) -> SchemaResponse:
    """What a file or a request body holds, for validators and generators of code.

    `metrics` is that of the artifact metrics.json. Fields may be added within /v1, and never change
    their meaning.
    """
    if name not in READ | WRITTEN:
        raise NotFound(
            f"There is no schema {name!r}; there are those of {', '.join(READ | WRITTEN)}."
        )
    return SchemaResponse(document(name))


def document(name: str) -> dict[str, Any]:
    """A schema that stands by itself. [JSON Schema 2020-12]"""
    if name in READ:
        made = READ[name].model_json_schema(by_alias=True)
    else:
        made = WRITTEN[name].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, "$id": f"urn:secateur:{name}:v1", **made}
