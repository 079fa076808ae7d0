"""/v1/models"""

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.api.context import Ctx, Cursor, IdempotencyKey, Limit
from app.api.downloads import conditional, download
from app.api.forms import Filename, ModelId, Sha256, created, form
from app.api.multipart import take
from app.api.paging import Page, page
from app.api.problems import responses
from app.domain.analysis import ModelAnalysis
from app.services.resources import ModelResource

router = APIRouter(prefix="/v1", responses=responses(422, 503))


@router.post(
    "/models",
    tags=["models"],
    status_code=201,
    response_model=ModelResource,
    summary="Upload a trained model",
    responses=responses(409, 413, 507),
    openapi_extra=form("A .keras file, or a legacy .h5/.hdf5 file of Keras 2, with its weights."),
)
async def upload_model(request: Request, ctx: Ctx, key: IdempotencyKey = None) -> JSONResponse:
    """A whole Keras model (`model.save("model.keras")`), as a multipart field `file`.

    It is read without being run: the answer lists inputs, outputs, layers and parameters, and
    for files of Keras 2 every mend that makes it compute under Keras 3 what it computed before.
    To try it, download [the example model](/examples/digits.keras) first.
    """
    writer = ctx.store.writer()
    try:
        upload = await take(request, ctx, writer)
        return created(
            await to_thread.run_sync(ctx.uploads.add_model, writer, upload.filename, key)
        )
    finally:
        writer.abort()


@router.get("/models", tags=["models"], summary="List models")
def list_models(
    ctx: Ctx,
    limit: Limit = 50,
    cursor: Cursor = None,
    filename: Filename = None,
    sha256: Sha256 = None,
) -> Page[ModelResource]:
    """Newest first."""
    return page(ctx.uploads.models(limit + 1, cursor, filename=filename, sha256=sha256), limit)


@router.get(
    "/models/{model_id}",
    tags=["models"],
    summary="Look at a model",
    responses=responses(404),
)
def get_model(ctx: Ctx, model_id: ModelId) -> ModelResource:
    """What is known of a model without running it."""
    model_id = ctx.examples.ensure(model_id)
    return ctx.uploads.model(model_id)


@router.get(
    "/models/{model_id}/analysis",
    tags=["models"],
    summary="See what can be removed from a model",
    response_model=ModelAnalysis,
    responses=responses(404, 500)
    | {
        200: {
            "description": "The analysis; with `Accept: text/html` a page with table and graph.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        304: {"description": "The client's copy, named by If-None-Match, is current."},
    },
)
async def analyse_model(request: Request, ctx: Ctx, model_id: ModelId) -> Response:
    """Layers, their units, which of them may go and why others stay, and the model's graph.

    The first call asks a worker and takes seconds; the answer is kept,
    since a model never changes.
    """
    model_id = await to_thread.run_sync(ctx.examples.ensure, model_id)
    kept = await ctx.analyses.of(model_id)
    if kept.page is not None and _wants_page(request):
        answer = await to_thread.run_sync(download, request, ctx.store, kept.page)
    else:
        answer = conditional(
            request, kept.analysis.model_dump_json(by_alias=True).encode(), "application/json"
        )
    answer.headers["Vary"] = "Accept"
    return answer


def _wants_page(request: Request) -> bool:
    """Browsers name text/html; what names JSON too, or nothing, gets JSON."""
    accept = request.headers.get("accept", "")
    return "text/html" in accept and "application/json" not in accept


@router.delete(
    "/models/{model_id}",
    tags=["models"],
    status_code=204,
    summary="Delete a model",
    responses=responses(404, 409),
)
def delete_model(ctx: Ctx, model_id: ModelId) -> Response:
    """Refused while a queued or running job needs it. Results of ended jobs stay."""
    model_id = ctx.examples.ensure(model_id)
    ctx.uploads.delete_model(model_id)
    return Response(status_code=204)
