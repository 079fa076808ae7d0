"""The API application: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from app.adapters.database import migrate
from app.api import (
    access,
    artifacts,
    capabilities,
    datasets,
    events,
    health,
    jobs,
    models,
    page,
    problems,
    schemas,
    sweeps,
    uploads,
    webhooks,
)
from app.api.access import Access
from app.api.context import Context
from app.api.hygiene import SecurityHeaders, SlowClients
from app.api.limits import BodyLimit
from app.api.telemetry import Telemetry
from app.observe import traces
from app.services.examples import FILES
from app.settings import Settings

DESCRIPTION = """
Upload a trained Keras model, say what you want, get back one that is really smaller and really
faster, with figures measured before and after in the same run.

1. `POST /v1/models` and `POST /v1/datasets`: upload. Examples to try:
   [digits.keras](/examples/digits.keras), [digits.npz](/examples/digits.npz).
2. `GET /v1/models/{id}/analysis`: see what could be removed, and why the rest could not.
3. `POST /v1/specs/validate`: see what a spec would cut. `POST /v1/jobs`: do it.
   Many at once: `POST /v1/sweeps`.
4. `GET /v1/jobs/{id}` until `done`, or follow `…/events`, or have it sent to you
   (`POST /v1/webhooks`); then download from `…/artifacts`.

Where the service asks for API keys, "Authorize" takes yours; elsewhere send it as
`Authorization: Bearer sct_…`.

Errors are `application/problem+json` (RFC 9457): a stable `type`, a sentence, the `field` at
fault, whose fault it is, and whether a retry can help.
"""
TAGS = [
    {"name": "models", "description": "Trained Keras models."},
    {"name": "datasets", "description": "Samples to fine-tune with and to measure on."},
    {
        "name": "uploads",
        "description": "Large files, piece by piece: the tus 1.0 protocol, which goes on where a "
        "connection broke off.",
    },
    {"name": "jobs", "description": "Pruning jobs, their progress and their files."},
    {"name": "sweeps", "description": "Many jobs at once, compared side by side."},
    {"name": "webhooks", "description": "Ends of jobs and sweeps, sent to you."},
    {"name": "service", "description": "What the service can do, and how it is."},
]

EXPOSED = ["ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"]
"""Headers that web pages of allowed origins may read."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; settings come from the environment when left out."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        traces.begin("api")
        migrate(settings.effective_database_url)
        app.state.context = Context.build(settings)
        app.state.context.reading.start()
        try:
            yield
        finally:
            app.state.context.close()
            traces.end()

    app: FastAPI = FastAPIOffline(
        title="Secateur",
        version=version("secateur"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )
    problems.install(app)
    access.install(app, settings)
    webhooks.describe(app)
    for module in (
        jobs,
        models,
        datasets,
        uploads,
        sweeps,
        webhooks,
        events,
        artifacts,
        capabilities,
        schemas,
        health,
    ):
        app.include_router(module.router)
    app.mount("/examples", StaticFiles(directory=FILES), name="examples")
    page.install(app)
    _wrap(app, settings)
    return app


def _wrap(app: FastAPI, settings: Settings) -> None:
    """Middleware, from the inside out: what is added last sees a request first."""
    app.add_middleware(BodyLimit, limit_bytes=settings.body_limit_bytes)
    app.add_middleware(
        SlowClients,
        seconds=settings.slow_client_seconds,
        bytes_per_second=settings.slowest_bytes_per_second,
    )
    app.add_middleware(Access, settings=settings)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
                *uploads.REQUEST_HEADERS,
            ],
            expose_headers=[*EXPOSED, *uploads.ANSWER_HEADERS],
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Telemetry)
