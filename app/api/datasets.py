"""/v1/datasets"""

import json

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from app.api.context import Ctx, Cursor, IdempotencyKey, Limit
from app.api.forms import DatasetId, Filename, Sha256, created, form
from app.api.multipart import take
from app.api.paging import Page, page
from app.api.problems import responses
from app.domain.dataset import DatasetOptions
from app.domain.errors import InvalidDataset
from app.services.resources import DatasetResource

router = APIRouter(prefix="/v1", responses=responses(422, 503))


@router.post(
    "/datasets",
    tags=["datasets"],
    status_code=201,
    response_model=DatasetResource,
    summary="Upload a data set",
    responses=responses(409, 413, 507),
    openapi_extra=form(
        "An .npz, .csv or .parquet file, or a .zip of images in class folders.",
        options={
            "type": "string",
            "description": "JSON: target, scale, image_size, color, test_share, validation_share.",
            "example": '{"scale": 0.0625}',
        },
    ),
)
async def upload_dataset(request: Request, ctx: Ctx, key: IdempotencyKey = None) -> JSONResponse:
    """Samples with targets, as a multipart field `file`; how to read it in the field `options`.

    `.npz`: arrays `x_train`, `y_train`, `x_test`, `y_test`, optionally `x_val`, `y_val`; or `x`
    and `y`, which each job splits by its seed. Several inputs: `x_train.<input name>`. Tables
    need `{"target": "column"}`. The test split is only ever used for the final figures.
    To try it, download [the example data](/examples/digits.npz) first.
    """
    writer = ctx.store.writer()
    try:
        upload = await take(request, ctx, writer, frozenset({"options"}))
        options = read_options(upload.fields.get("options", ""))
        return created(
            await to_thread.run_sync(ctx.uploads.add_dataset, writer, upload.filename, options, key)
        )
    finally:
        writer.abort()


def read_options(text: str) -> DatasetOptions:
    """How a data set is to be read, from JSON. Raises `InvalidDataset`."""
    try:
        return DatasetOptions.model_validate(json.loads(text or "{}"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["options", *map(str, first["loc"])])
        said = (
            f"there is no such option; there are {', '.join(DatasetOptions.model_fields)}"
            if first["type"] == "extra_forbidden"
            else first["msg"]
        )
        raise InvalidDataset(f"{field}: {said}.", field=field) from error
    except (ValueError, RecursionError) as error:
        raise InvalidDataset(
            f'options is not valid JSON ({error}); for example {{"target": "species"}}.',
            field="options",
        ) from error


@router.get("/datasets", tags=["datasets"], summary="List data sets")
def list_datasets(
    ctx: Ctx,
    limit: Limit = 50,
    cursor: Cursor = None,
    filename: Filename = None,
    sha256: Sha256 = None,
) -> Page[DatasetResource]:
    """Newest first."""
    return page(ctx.uploads.datasets(limit + 1, cursor, filename=filename, sha256=sha256), limit)


@router.get(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    summary="Look at a data set",
    responses=responses(404),
)
def get_dataset(ctx: Ctx, dataset_id: DatasetId) -> DatasetResource:
    """Splits, shapes, classes, and how it is read."""
    dataset_id = ctx.examples.ensure(dataset_id)
    return ctx.uploads.dataset(dataset_id)


@router.delete(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    status_code=204,
    summary="Delete a data set",
    responses=responses(404, 409),
)
def delete_dataset(ctx: Ctx, dataset_id: DatasetId) -> Response:
    """Refused while a queued or running job needs it. Results of ended jobs stay."""
    dataset_id = ctx.examples.ensure(dataset_id)
    ctx.uploads.delete_dataset(dataset_id)
    return Response(status_code=204)
