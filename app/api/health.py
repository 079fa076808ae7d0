"""/healthz, /readyz, /metrics, /problems"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.context import Ctx
from app.api.figures import exposition
from app.api.forms import Slug
from app.api.problems import responses, status_of
from app.domain.base import Record
from app.domain.errors import NotFound, Unavailable, error_classes
from app.services.workers import WorkerConfinement, living

router = APIRouter(tags=["service"])


class Health(Record):
    """The process answers."""

    status: str


class Readiness(Record):
    """Each part: `ok`, or what is wrong."""

    ready: bool
    database: str
    broker: str
    store: str
    confinement: str
    """`ok` where all workers confine jobs fully, else which does not, and why."""
    workers: list[WorkerConfinement] = []
    """Those heard of within a minute. None is no fault: jobs wait for one."""


@router.get("/healthz", summary="Is the process alive?")
def healthz() -> Health:
    """Answers without touching anything else."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Can the service take work?",
    responses={503: {"model": Readiness, "description": "A part does not answer."}},
)
def readyz(ctx: Ctx) -> Response:
    """Asks the database, the broker and the store, and looks whether workers can confine jobs."""
    said = {}
    found: list[WorkerConfinement] = []
    for name, ping in (
        ("database", ctx.database.ping),
        ("broker", ctx.queue.ping),
        ("store", ctx.store.ping),
    ):
        try:
            ping()
            said[name] = "ok"
        except Unavailable as error:
            said[name] = error.detail
    try:
        found = living(ctx.database)
    except Unavailable:
        pass  # Said already.
    ready = all(word == "ok" for word in said.values())
    # Workers that refuse every job are as good as a broker that does not answer.
    ready = ready and (not found or any(one.runs_jobs for one in found))
    answer = Readiness(ready=ready, **said, confinement=_confinement(found), workers=found)
    return JSONResponse(answer.model_dump(), status_code=200 if ready else 503)


def _confinement(found: list[WorkerConfinement]) -> str:
    if not found:
        return "unknown: no worker has reported within a minute"
    lacking = [
        f"{one.worker} {'runs' if one.runs_jobs else 'refuses'} jobs, {one.confinement.sentence}"
        for one in found
        if one.confinement.missing or not one.confinement.network.active
    ]
    return "; ".join(lacking) or "ok"


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
def metrics(ctx: Ctx) -> Response:
    """What this process counts for itself, and the figures of all jobs from the database.

    While the database is away, `secateur_up` says so, and its figures are missing.
    """
    return Response(exposition(ctx.database, ctx.queue), media_type=CONTENT_TYPE_LATEST)


class ProblemKind(Record):
    """What a problem's `type` means."""

    type: str
    title: str
    description: str
    status: int
    fault: str
    retryable: bool


@router.get(
    "/problems/{slug}", summary="What a kind of problem means", responses=responses(404, 422)
)
def problem_kind(request: Request, slug: Slug) -> ProblemKind:
    """The address in a problem's `type` answers here."""
    for cls in error_classes():
        if cls.slug == slug:
            return ProblemKind(
                type=f"/problems/{slug}",
                title=cls.title,
                description=(cls.__doc__ or "").split("\n")[0],
                status=status_of(cls),
                fault=cls.fault,
                retryable=cls.retryable,
            )
    raise NotFound(f"There is no kind of problem called {slug!r}.")
