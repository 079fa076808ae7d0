"""Errors as RFC 9457 problems: one table, one place."""

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from app.api.refusals import count_refusal
from app.domain import errors
from app.domain.errors import InvalidParameter, InvalidSpec, InvalidWebhook, SecateurError
from app.services.resources import Problem

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[SecateurError], int] = {
    errors.SecateurError: 500,
    errors.InvalidInput: 422,
    errors.InvalidParameter: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooSlow: 408,
    errors.Conflict: 409,
    errors.ProtocolVersion: 412,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.RangeNotSatisfiable: 416,
    errors.Busy: 429,
    errors.ChecksumMismatch: 460,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
    errors.EngineRefusal: 422,
    errors.OutOfMemory: 422,
    errors.TimeLimitReached: 422,
    errors.ResourceLimitReached: 422,
    errors.ForbiddenOperation: 422,
    errors.JobError: 500,
}
"""The nearest ancestor in this table gives the status."""

MEANING = {
    401: "No API key came with the request, or one that is not valid.",
    403: "The API key does not have the scope that this needs, or a foreign web page asks.",
    404: "No such resource.",
    408: "The body came too slowly.",
    409: "The resource's state does not allow this, or the idempotency key was used differently.",
    412: "The client does not say that it speaks tus 1.0.0.",
    413: "The upload is over the limit.",
    415: "The body is of another type than is expected here.",
    416: "The range cannot be satisfied.",
    422: "The request is not valid; `detail` and `field` say why.",
    429: "More requests in a minute, or more jobs waiting, than one owner may have; Retry-After "
    "says when to try again.",
    460: "The checksum is not that of what came; nothing of it was kept.",
    500: "Secateur failed, or the process that ran the model; the log has the reason.",
    503: "The broker, the database or a worker does not answer, or the queues are full; try again.",
    507: "The owner stores as much as one owner may.",
}

SHARES = frozenset({"remove", "keep", "max_remove"})
EXAMPLES = {
    "model": '"mdl_example"',
    "dataset": '"dts_example"',
    "prune": '{"target": {"kind": "fraction", "remove": 0.5}}',
    "prune.target": '{"kind": "fraction", "remove": 0.5}',
    "prune.granularity": '{"kind": "channel"}',
    "prune.criterion": '{"kind": "magnitude"}',
    "schedule": '{"kind": "one_shot"}',
    "fine_tune": '{"epochs": 10}',
}
FINDINGS = 50
"""No more are listed: a request must not be answered by a hundred times its size."""

UNREADABLE = InvalidSpec(
    "The body is not JSON that can be read: it is not UTF-8, is nested too deeply, or holds a "
    "number of thousands of digits."
)


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
    body = error.as_problem() | {"status": status, "instance": _instance(request)}
    if error.retry_after_seconds is not None:
        headers = {"Retry-After": f"{math.ceil(error.retry_after_seconds)}"} | (headers or {})
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def _instance(request: Request) -> str:
    return quote(request.url.path)


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


def _validation(error: RequestValidationError, path: str) -> SecateurError:
    if isinstance(error.body, bytes):
        return _kind(path)(
            "The body is not declared as JSON: send it with Content-Type: application/json."
        )
    found = error.errors()
    in_body = any(finding["loc"][0] == "body" for finding in found)
    return _invalid(_kind(path) if in_body else InvalidParameter, found, error.body)


def _kind(path: str) -> type[SecateurError]:
    """What a body is that is not valid."""
    return InvalidWebhook if path.startswith("/v1/webhooks") else InvalidSpec


def invalid_spec(error: ValidationError, raw: Any, within: str) -> InvalidSpec:
    """A spec inside a larger body that is not valid.

    Args:
        error: what the spec's type said.
        raw: the spec as it came.
        within: path of the spec in the body.
    """
    found = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors()]
    problem = _invalid(InvalidSpec, found, raw)
    return InvalidSpec(f"{within}: {problem.detail}", field=within, errors=problem.errors)


def _invalid(kind: type[SecateurError], said: Sequence[Any], body: Any) -> SecateurError:
    """All findings of a validation as one problem."""
    findings = []
    found = _without_echoes(said)
    total = len(found)
    for finding in found[:FINDINGS]:
        where, *rest = finding["loc"]
        path = field_path(tuple(rest), body) if where == "body" else ".".join(map(str, rest))
        said_of_it = _said(finding, path)
        context = finding.get("ctx", {})
        if finding["type"] == "json_invalid":
            path = ""
        elif finding["type"] == "wrong":
            path = f"{path}.{context['field']}" if path else str(context["field"])
        findings.append({"field": path, "detail": said_of_it})
    first = findings[0]
    more = f" ({total - 1} more under errors)" if 1 < total <= FINDINGS else ""
    if total > FINDINGS:
        more = f" ({total - 1} more, the first {FINDINGS} under errors)"
    at = f"{first['field']}: " if first["field"] else ""
    return kind(
        f"{at}{first['detail']}.{more}",
        field=first["field"] or None,
        errors=tuple(findings),
    )


def _without_echoes(found: Sequence[Any]) -> list[Any]:
    """Pydantic also counts a list whose items were refused as too short."""
    inner = {finding["loc"][:-1] for finding in found}
    return [f for f in found if f["type"] != "too_short" or f["loc"] not in inner]


def _said(finding: Any, path: str) -> str:
    """What is wrong, in the words of the API rather than of the library."""
    context, got = finding.get("ctx", {}), f"got {_short(finding.get('input'))}"
    match finding["type"]:
        case "json_invalid":
            return f"the body is not valid JSON: {context['error']}"
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            example = EXAMPLES.get(path)
            return "this field is missing" + (f"; for example {example}" if example else "")
        case "union_tag_invalid":
            return f"there is no {context['tag']!r} here; there are {context['expected_tags']}"
        case "union_tag_not_found" | "model_attributes_type":
            example = EXAMPLES.get(path, '{"kind": …}')
            return f"expected an object such as {example}; {got}"
        case "string_pattern_mismatch" if path in ("model", "dataset"):
            return f"expected the id that uploading answered with, such as {EXAMPLES[path]}; {got}"
        case "less_than" | "greater_than" if path.rsplit(".", 1)[-1] in SHARES:
            return f"a share is a fraction between 0 and 1, not a percent; {got}"
        case "value_error" | "wrong":
            return str(finding["msg"]).removeprefix("Value error, ")
        case _:
            return f"{finding['msg']}; {got}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def install(app: FastAPI) -> None:
    """Register the handlers, and describe errors as they are sent."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        for operations in document["paths"].values():
            for operation in operations.values():
                for response in operation["responses"].values():
                    content = response.get("content", {})
                    # FastAPI adds the route's own media type beside the problem's.
                    if MEDIA_TYPE in content:
                        response["content"] = {MEDIA_TYPE: content[MEDIA_TYPE]}
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    @app.exception_handler(SecateurError)
    async def _secateur(request: Request, error: SecateurError) -> JSONResponse:
        count_refusal(request, error)
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(request, _validation(error, request.url.path))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            # FastAPI's answer to all that Python's parser refuses with anything but a JSON error.
            return problem_response(request, UNREADABLE)
        path = _instance(request)
        body = {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": f"{request.method} {path}: {error.detail}. "
            "The API's endpoints are described at /docs.",
            "instance": path,
            "fault": "client" if error.status_code < 500 else "service",
            "retryable": False,
        }
        return JSONResponse(body, error.status_code, error.headers, media_type=MEDIA_TYPE)
