"""Request ids, access log, metrics and spans of requests, as one ASGI middleware."""

import re
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from app.api.problems import problem_response
from app.domain.errors import InternalError
from app.observe import traces

REQUESTS = Counter("secateur_http_requests_total", "Requests", ["method", "route", "status"])
SECONDS = Histogram(
    "secateur_http_request_seconds",
    "Time to the end of the response",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)

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
        with _span(scope, request_id) as span:
            try:
                await self.app(scope, receive, tell)
            except Exception:
                log.exception("unhandled", path=scope["path"])
                if status:
                    raise  # Half an answer is out: only a broken connection can say so.
                await problem_response(Request(scope), DEFECT)(scope, receive, tell)
            finally:
                self._note(scope, status or 500, time.perf_counter() - started, span)

    def _note(self, scope: Scope, status: int, seconds: float, span: traces.Open) -> None:
        method, template = _named(scope)
        span.rename(f"{method} {template}")
        span.tell(http__route=template, http__response__status_code=status)
        if status >= 500:
            span.failed(f"answered {status}")
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


def _named(scope: Scope) -> tuple[str, str]:
    """Method and route. Unknown ones share a label: a scanner must not grow the metrics without
    bound."""
    route: Any = scope.get("route")
    method = scope["method"] if scope["method"] in METHODS else "other"
    return method, getattr(route, "path", None) or "other"


def _span(scope: Scope, request_id: str) -> AbstractContextManager[traces.Open]:
    """A request's span, below the client's own where that sent one."""
    if scope["path"] in QUIET:
        return nullcontext(traces.Open(None))
    given = dict(scope["headers"]).get(b"traceparent")
    parent = given.decode("latin-1") if given else None
    method, _ = _named(scope)
    attributes = {"http.request.method": method, "secateur.request": request_id}
    return traces.span("request", "server", parent, attributes)
