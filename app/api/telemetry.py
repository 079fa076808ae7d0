"""Request ids, access log and Prometheus metrics, as one ASGI middleware."""

import re
import time
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from app.adapters.database import Database, JobRow
from app.api.problems import problem_response
from app.domain.errors import InternalError
from app.domain.job import Status
from app.services.line import queue_state

REQUESTS = Counter("secateur_http_requests_total", "Requests", ["method", "route", "status"])
SECONDS = Histogram(
    "secateur_http_request_seconds",
    "Time to the end of the response",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
JOBS = Gauge("secateur_jobs", "Jobs in the database", ["status"])
OLDEST = Gauge("secateur_queue_oldest_seconds", "Age of the oldest queued job")
WAITING = Gauge("secateur_queue_waiting", "Jobs that wait, by queue", ["queue"])
WAITED = Gauge("secateur_queue_waiting_seconds", "How long the oldest waits, by queue", ["queue"])
RUNNING = Gauge("secateur_queue_running", "Jobs that run, by queue", ["queue"])
WORKERS = Gauge("secateur_queue_workers", "Living worker processes, by queue", ["queue"])

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEFECT = InternalError(
    "Secateur failed to answer this request; the log has the reason under the request id in the "
    "X-Request-ID header."
)
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger("app.access")


class Telemetry:
    """Gives every request an id, counts it and logs one line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{ULID()}"
        status = 0
        started = time.perf_counter()

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        try:
            await self.app(scope, receive, tell)
        except Exception:
            log.exception("unhandled", path=scope["path"])
            if status:
                raise  # Half an answer is out: only a broken connection can say so.
            await problem_response(Request(scope), DEFECT)(scope, receive, tell)
        finally:
            self._note(scope, status or 500, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        # Unknown paths and methods share one label: a scanner must not grow the metrics without
        # bound.
        template = getattr(route, "path", None) or "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        REQUESTS.labels(method, template, str(status)).inc()
        SECONDS.labels(method, template).observe(seconds)
        if scope["path"] not in QUIET:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(seconds * 1000, 1),
                **{k: v for k, v in scope.get("path_params", {}).items() if k.endswith("_id")},
            )


def refresh_gauges(database: Database) -> None:
    """Read the jobs' gauges off the database."""
    with database.read() as session:
        rows = session.execute(
            select(JobRow.state, func.count()).where(JobRow.kind == "prune").group_by(JobRow.state)
        ).all()
        oldest = session.scalar(
            select(func.clock() - func.min(JobRow.created_at)).where(
                JobRow.kind == "prune", JobRow.state == Status.QUEUED
            )
        )
    counts = {row[0]: row[1] for row in rows}
    for status in Status:
        JOBS.labels(str(status)).set(counts.get(str(status), 0))
    OLDEST.set(oldest or 0)
    for state in queue_state(database):
        WAITING.labels(state.queue).set(state.waiting)
        WAITED.labels(state.queue).set(state.oldest_seconds)
        RUNNING.labels(state.queue).set(state.running)
        WORKERS.labels(state.queue).set(state.workers)
