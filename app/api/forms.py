"""What the two upload routes share."""

from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import JSONResponse

from app.domain.base import Text
from app.plots import Format
from app.services.idempotency import Answer


def created(answer: Answer) -> JSONResponse:
    """An answer of a creating service, with its Location."""
    headers = {"Location": answer.location} if answer.location else {}
    if answer.replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(answer.body, answer.status, headers)


def form(file: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI of a multipart body with a file and further fields."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {
                                "type": "string",
                                "format": "binary",
                                "description": file,
                            },
                            **fields,
                        },
                    }
                }
            },
        }
    }


def _named(example: str) -> Any:
    """A path parameter whose example Swagger UI fills in: it ignores those of the schema."""
    return Path(max_length=64, openapi_examples={example: {"value": example}})


Filename = Annotated[Text | None, Query(max_length=255, description="Only uploads of this name.")]
Sha256 = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="Only this content.")]
ModelId = Annotated[Text, _named("mdl_example")]
DatasetId = Annotated[Text, _named("dts_example")]
UploadId = Annotated[Text, Path(max_length=64)]
SweepId = Annotated[Text, _named("swp_example")]
WebhookId = Annotated[Text, _named("whk_example")]
DeliveryId = Annotated[Text, _named("whd_example")]
PlotKind = Annotated[Format, _named("svg")]
JobId = Annotated[Text, _named("job_example")]
FileName = Annotated[Text, _named("metrics.json")]
SchemaName = Annotated[Text, _named("metrics")]
Slug = Annotated[Text, _named("invalid-spec")]
