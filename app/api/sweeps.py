"""/v1/sweeps"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import ValidationError

from app.api.context import Ctx, Cursor, IdempotencyKey, Limit
from app.api.forms import PlotKind, SweepId, created
from app.api.paging import Page, page
from app.api.problems import invalid_spec, responses
from app.domain.errors import InvalidSpec
from app.domain.spec import PruningSpec
from app.domain.sweep import Member, SweepSpec, members
from app.plots import Theme
from app.services.sweeps import SweepResource

router = APIRouter(prefix="/v1", tags=["sweeps"], responses=responses(422, 503))

EXAMPLES: dict[str, Any] = {
    "weights against units": {
        "summary": "Single weights against whole units, at five shares, without training",
        "value": {
            "base": {
                "model": "mdl_example",
                "dataset": "dts_example",
                "prune": {"target": {"kind": "fraction"}},
                "fine_tune": None,
                "evaluate": {"latency": None},
            },
            "grid": {
                "prune.granularity": ["weight", "unit"],
                "prune.target.remove": [0.1, 0.3, 0.5, 0.7, 0.9],
            },
        },
    },
    "against chance": {
        "summary": "Three criteria and, as the control, units chosen at random",
        "value": {
            "base": {
                "model": "mdl_example",
                "dataset": "dts_example",
                "prune": {"target": {"kind": "macs", "keep": 0.3}},
                "fine_tune": {"epochs": 2},
            },
            "grid": {"prune.criterion": ["magnitude", "taylor", "activation", "random"]},
        },
    },
}


@router.post(
    "/sweeps",
    status_code=202,
    response_model=SweepResource,
    summary="Try many specs",
    responses=responses(409, 413, 507),
)
def submit_sweep(
    ctx: Ctx,
    sweep: Annotated[SweepSpec, Body(openapi_examples=EXAMPLES)],
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Queue a job for each spec of a list, or for each combination of a grid, or none at all.

    All workers take from them. Look at the sweep for one comparison of them all.
    """
    specs = [(member, ctx.examples.ensure_named(spec)) for member, spec in _read(sweep)]
    return created(ctx.sweeps.submit(sweep, specs, key))


def _read(sweep: SweepSpec) -> list[tuple[Member, PruningSpec]]:
    found = []
    try:
        for member in members(sweep):
            try:
                found.append((member, PruningSpec.model_validate(member.spec)))
            except ValidationError as error:
                raise invalid_spec(error, member.spec, member.at) from error
    except ValueError as error:
        raise InvalidSpec(
            f"A path of the grid leads through {error.args[0]!r}, which has no fields inside: name "
            "fields as in the spec, such as prune.target.remove, and give lists whole.",
            field="grid",
        ) from error
    return found


@router.get("/sweeps", summary="List sweeps")
def list_sweeps(ctx: Ctx, limit: Limit = 10, cursor: Cursor = None) -> Page[SweepResource]:
    """Newest first."""
    return page(ctx.sweeps.newest(limit + 1, cursor), limit)


@router.get("/sweeps/{sweep_id}", summary="Look at a sweep", responses=responses(404))
def get_sweep(ctx: Ctx, sweep_id: SweepId) -> SweepResource:
    """Its jobs side by side: what sets each apart, its figures, and which nothing else beats."""
    sweep_id = ctx.examples.ensure(sweep_id)
    return ctx.sweeps.get(sweep_id)


@router.get(
    "/sweeps/{sweep_id}/table.csv",
    summary="Download the comparison",
    response_class=PlainTextResponse,
    responses=responses(404)
    | {200: {"description": "CSV.", "content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def get_table(ctx: Ctx, sweep_id: SweepId) -> Response:
    """A line for each job: what sets it apart, sizes, metrics with their intervals, speed-ups."""
    sweep_id = ctx.examples.ensure(sweep_id)
    return Response(ctx.sweeps.table(sweep_id), media_type="text/csv; charset=utf-8")


PLOT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {f"image/{kind}": {"schema": {"type": "string"}} for kind in ("svg+xml", "png")},
    }
}


@router.get(
    "/sweeps/{sweep_id}/plot.{kind}",
    summary="Look at the comparison",
    response_class=Response,
    responses=responses(404) | PLOT,
)
def get_plot(
    ctx: Ctx,
    sweep_id: SweepId,
    kind: PlotKind,
    theme: Theme = "light",
) -> Response:
    """The metric over what was varied, with 95 % confidence intervals, and Pareto fronts."""
    from app.plots.comparison import Compared, draw  # Half a second, which most processes save.

    sweep_id = ctx.examples.ensure(sweep_id)
    sweep = ctx.sweeps.get(sweep_id)
    models = [
        Compared(varied=job.varied, after=job.after) for job in sweep.jobs if job.after is not None
    ]
    picture = draw(models, sweep.before, title=sweep.name or "", kind=kind, theme=theme)
    return Response(picture, media_type="image/svg+xml" if kind == "svg" else "image/png")


@router.post(
    "/sweeps/{sweep_id}/cancel",
    status_code=202,
    summary="Cancel a sweep",
    responses=responses(404, 413),
)
def cancel_sweep(ctx: Ctx, sweep_id: SweepId) -> SweepResource:
    """Stops all of its jobs that have not ended; the others keep their results."""
    sweep_id = ctx.examples.ensure(sweep_id)
    return ctx.sweeps.cancel(sweep_id)


@router.post(
    "/sweeps/{sweep_id}/retry",
    status_code=202,
    summary="Run what failed again",
    responses=responses(404, 409, 413, 507),
)
def retry_sweep(ctx: Ctx, sweep_id: SweepId) -> SweepResource:
    """Queues its failed and cancelled jobs again, which go on from their checkpoints."""
    sweep_id = ctx.examples.ensure(sweep_id)
    return ctx.sweeps.retry(sweep_id)


@router.delete(
    "/sweeps/{sweep_id}",
    status_code=204,
    summary="Delete a sweep",
    responses=responses(404, 409),
)
def delete_sweep(ctx: Ctx, sweep_id: SweepId) -> Response:
    """The sweep, its jobs, and their events and files. Cancel it first while jobs go on."""
    sweep_id = ctx.examples.ensure(sweep_id)
    ctx.sweeps.delete(sweep_id)
    return Response(status_code=204)
