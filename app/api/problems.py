"""Errors as RFC 9457 problems: one table, one place."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.domain import errors
from app.domain.errors import InvalidParameter, InvalidSpec, SecateurError
from app.services.resources import Problem

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[SecateurError], int] = {
    errors.SecateurError: 500,
    errors.InvalidInput: 422,
    errors.InvalidParameter: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.RangeNotSatisfiable: 416,
    errors.Unavailable: 503,
    errors.EngineRefusal: 422,
    errors.JobError: 500,
}
"""The nearest ancestor in this table gives the status."""

MEANING = {
    404: "No such resource.",
    409: "The resource's state does not allow this, or the idempotency key was used differently.",
    413: "The upload is over the limit.",
    416: "The range cannot be satisfied.",
    422: "The request is not valid; `detail` and `field` say why.",
    503: "The broker, the database or a worker does not answer; try again.",
}

log = structlog.get_logger(__name__)


def status_of(error: type[SecateurError]) -> int:
    """HTTP status of an error class."""
    return next(STATUS[cls] for cls in error.__mro__ if cls in STATUS)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented errors of a route."""
    return {
        status: {
            "model": Problem,
            "description": MEANING[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def problem_response(
    request: Request, error: SecateurError, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as the client sees it."""
    status = status_of(type(error))
    body = error.as_problem() | {"status": status, "instance": request.url.path}
    if isinstance(error, errors.Unavailable):
        headers = {"Retry-After": "2"} | (headers or {})
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def field_path(location: tuple[Any, ...], body: Any) -> str:
    """Path of a field as the user wrote it: Pydantic's tags of unions are left out.

    For `("prune", "target", "fraction", "remove")` and a body whose target has the kind
    `fraction` this is `prune.target.remove`.
    """
    path: list[str] = []
    for step in location:
        if isinstance(body, dict) and step not in body and body.get("kind") == step:
            continue
        if isinstance(body, str) and body == step:
            continue
        path.append(str(step))
        if isinstance(body, dict):
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            body = body[step]
        else:
            body = None
    return ".".join(path)


def _validation(error: RequestValidationError) -> SecateurError:
    findings = []
    in_body = False
    for finding in error.errors():
        where, *rest = finding["loc"]
        in_body = in_body or where == "body"
        path = field_path(tuple(rest), error.body) if where == "body" else ".".join(map(str, rest))
        said = str(finding["msg"]).removeprefix("Value error, ")
        if finding["type"] == "json_invalid":
            path, said = "", f"the body is not valid JSON: {finding['ctx']['error']}"
        elif finding["type"] not in ("value_error", "missing", "extra_forbidden"):
            said += f"; got {_short(finding.get('input'))}"
        if finding["type"] == "extra_forbidden":
            said = "there is no such field"
        findings.append({"field": path, "detail": said})
    first = findings[0]
    more = f" ({len(findings) - 1} more under errors)" if len(findings) > 1 else ""
    at = f"{first['field']}: " if first["field"] else ""
    kind = InvalidSpec if in_body else InvalidParameter
    return kind(
        f"{at}{first['detail']}.{more}",
        field=first["field"] or None,
        errors=tuple(findings),
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(SecateurError)
    async def _secateur(request: Request, error: SecateurError) -> JSONResponse:
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(request, _validation(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": f"{request.method} {request.url.path}: {error.detail}. "
            "The API's endpoints are described at /docs.",
            "instance": request.url.path,
            "fault": "client" if error.status_code < 500 else "service",
            "retryable": False,
        }
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(Exception)
    async def _defect(request: Request, error: Exception) -> JSONResponse:
        log.error("unhandled", path=request.url.path, exc_info=error)
        return problem_response(
            request,
            errors.InternalError(
                "Secateur failed to answer this request; the log has the reason under the "
                "request id in the X-Request-ID header."
            ),
        )
