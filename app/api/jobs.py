"""/v1/jobs and /v1/specs"""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import JSONResponse

from app.api.context import Ctx, Cursor, IdempotencyKey, Limit
from app.api.forms import JobId, created
from app.api.paging import Page, page
from app.api.problems import responses
from app.domain.base import Text
from app.domain.job import Status
from app.domain.metrics import Plan
from app.domain.spec import PruningSpec
from app.services.jobs import no_job
from app.services.resources import JobResource, as_json

router = APIRouter(prefix="/v1", tags=["jobs"], responses=responses(422, 503))

EXAMPLES: dict[str, Any] = {
    "half the units": {
        "summary": "Half the units removed, two epochs of fine-tuning",
        "value": {
            "model": "mdl_example",
            "dataset": "dts_example",
            "prune": {
                "granularity": "unit",
                "target": {"kind": "fraction", "remove": 0.5},
            },
            "fine_tune": {"epochs": 2},
        },
    },
    "90 % sparse": {
        "summary": "Nine of ten weights zero, in four cuts of decreasing size",
        "value": {
            "model": "mdl_example",
            "dataset": "dts_example",
            "prune": {
                "granularity": "weight",
                "scope": "global",
                "target": {"kind": "fraction", "remove": 0.9},
            },
            "schedule": {"kind": "polynomial", "steps": 4},
            "fine_tune": {"epochs": 4},
        },
    },
    "at most 3 points lost": {
        "summary": "As small as accuracy allows, taught by the original; also as int8",
        "value": {
            "model": "mdl_example",
            "dataset": "dts_example",
            "prune": {
                "scope": "global",
                "target": {"kind": "accuracy_drop", "max_points": 3, "trials": 4},
            },
            "fine_tune": {"epochs": 4, "distillation": {}},
            "exports": ["keras", "litert", "litert_int8"],
        },
    },
    "half the MACs, no data": {
        "summary": "Half the multiply-accumulates, without a data set: accuracy is not measured",
        "value": {
            "model": "mdl_example",
            "prune": {"target": {"kind": "macs", "keep": 0.5}},
            "exports": ["keras", "litert"],
        },
    },
}
JSON = "application/json"
Spec = Annotated[PruningSpec, Body(openapi_examples=EXAMPLES)]


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobResource,
    summary="Prune a model",
    responses=responses(409, 413, 507),
)
def submit_job(ctx: Ctx, spec: Spec, key: IdempotencyKey = None) -> JSONResponse:
    """Queue a job. Poll it at its `Location`, or follow its events, until `done` is true."""
    return created(ctx.jobs.submit(ctx.examples.ensure_named(spec), key))


@router.post("/specs/validate", summary="Dry run of a job", responses=responses(413, 500))
async def validate_spec(ctx: Ctx, spec: Spec) -> Plan:
    """What the first and last cut of this spec would remove, and the size it would leave.

    The same engine and the same rules as the job's, but nothing is queued, trained or kept.
    """
    spec = await to_thread.run_sync(ctx.examples.ensure_named, spec)
    return await ctx.jobs.plan(spec)


@router.get("/jobs", summary="List jobs")
def list_jobs(
    ctx: Ctx,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query(description="Only jobs in this status.")] = None,
    model: Annotated[Text | None, Query(max_length=64, description="Only this model's.")] = None,
    dataset: Annotated[
        Text | None, Query(max_length=64, description="Only this data set's.")
    ] = None,
    sweep: Annotated[Text | None, Query(max_length=64, description="Only this sweep's.")] = None,
) -> Page[JobResource]:
    """Newest first."""
    model, dataset, sweep = (id_ and ctx.examples.id(id_) for id_ in (model, dataset, sweep))
    return page(ctx.jobs.newest(limit + 1, cursor, status, model, dataset, sweep), limit)


@router.get(
    "/jobs/{job_id}",
    response_model=JobResource,
    summary="Look at a job",
    responses=responses(404),
)
async def get_job(ctx: Ctx, job_id: JobId) -> Response:
    """Status, progress, and in the end the metrics or the error."""
    if ctx.examples.is_one(job_id):
        job_id = await to_thread.run_sync(ctx.examples.ensure, job_id)
    # It is what people ask for most, and handing it to a thread costs more than a local read.
    if ctx.database.in_process:
        shown = as_json(ctx.jobs.get(job_id))
    else:
        found = await ctx.polls.find((ctx.jobs.caller.owner, job_id))
        if found is None:
            raise no_job(job_id)
        shown = found
    return Response(shown, media_type=JSON)


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses=responses(404, 409, 413, 507),
)
def cancel_job(ctx: Ctx, job_id: JobId) -> JobResource:
    """A running job stops within two seconds, also in the middle of an epoch."""
    job_id = ctx.examples.ensure(job_id)
    return ctx.jobs.cancel(job_id)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=202,
    summary="Run a failed or cancelled job again",
    responses=responses(404, 409, 413, 507),
)
def retry_job(ctx: Ctx, job_id: JobId) -> JobResource:
    """Fine-tuning goes on from the last checkpoint, where there is one."""
    job_id = ctx.examples.ensure(job_id)
    return ctx.jobs.retry(job_id)


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    summary="Delete a job",
    responses=responses(404, 409),
)
def delete_job(ctx: Ctx, job_id: JobId) -> Response:
    """The job, its events and its artifacts. Cancel a queued or running one first."""
    job_id = ctx.examples.ensure(job_id)
    ctx.jobs.delete(job_id)
    return Response(status_code=204)
