"""/v1/uploads: the tus 1.0 protocol, for files that one connection may not carry."""

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.api import tus
from app.api.context import Context, Ctx, Cursor, Limit
from app.api.datasets import read_options
from app.api.forms import UploadId
from app.api.paging import Page, page
from app.api.problems import problem_response, responses
from app.domain.errors import (
    InvalidParameter,
    InvalidUpload,
    ProtocolVersion,
    SecateurError,
    TooSlow,
)
from app.domain.ports import BlobWriter
from app.domain.upload import UploadState
from app.services.resources import UploadResource
from app.services.resumable import Appending, too_much
from app.services.segments import SEGMENT_BYTES

router = APIRouter(prefix="/v1", tags=["uploads"], responses=responses(422, 503))

REQUEST_HEADERS = (
    "Tus-Resumable",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "Upload-Checksum",
    "X-HTTP-Method-Override",
)
LINGER_SECONDS = 2.0
ANSWER_HEADERS = (
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Expires",
)
Text = Annotated[str | None, Header()]
BODY: dict[str, Any] = {
    "requestBody": {
        "content": {tus.BODY: {"schema": {"type": "string", "format": "binary"}}},
    }
}
HEADERS: dict[str, Any] = {
    "Upload-Offset": {"schema": {"type": "integer"}, "description": "Bytes that are there."},
    "Upload-Expires": {"schema": {"type": "string"}, "description": "When it is given up."},
}


@router.options("/uploads", include_in_schema=False)
@router.options("/uploads/{upload_id}", include_in_schema=False)
def options(ctx: Ctx) -> Response:
    """What of the protocol is spoken here."""
    return _answer(
        204,
        {
            "Tus-Version": tus.VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(ctx.settings.upload_limit_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
        },
    )


@router.post(
    "/uploads",
    status_code=201,
    response_class=Response,
    summary="Begin a resumable upload",
    responses=responses(409, 412, 413, 415, 460, 507)
    | {201: {"description": "Begun; Location says where to send the bytes.", "headers": HEADERS}},
    openapi_extra=BODY,
)
async def begin_upload(
    request: Request,
    ctx: Ctx,
    tus_resumable: Text = None,
    upload_length: Text = None,
    upload_metadata: Text = None,
    upload_checksum: Text = None,
) -> Response:
    """By any client of [tus](https://tus.io), with `kind` (`model` or `dataset`), `filename` and,
    for data sets, `options` (JSON) as Upload-Metadata; the first bytes may come along.

    When the last byte is there the file is read by itself: `GET` the Location until `done`.
    """
    return await _speaking(request, lambda: _begin(request, ctx))


async def _begin(request: Request, ctx: Context) -> Response:
    tus.check_version(request.headers)
    if "upload-defer-length" in request.headers:
        raise InvalidParameter(
            "The length must be known from the beginning: send Upload-Length.",
            field="Upload-Defer-Length",
        )
    length = tus.number(request.headers, "Upload-Length")
    given = request.headers.get("upload-metadata", "")
    what = tus.metadata(given)
    options = read_options(what.options) if what.kind == "dataset" else None
    with_bytes = "content-type" in request.headers
    if with_bytes:
        tus.check_body(request.headers)
    checksum = tus.Checksum.announced(request.headers)
    begun = await to_thread.run_sync(
        ctx.resumable.begin, what.kind, what.filename, length, options, given
    )
    headers = {"Location": f"/v1/uploads/{begun.id}", "Upload-Offset": "0"}
    if with_bytes:
        begun = await _append(request, ctx, begun.id, 0, checksum)
    return _answer(201, headers | _standing(begun))


@router.get("/uploads", summary="List resumable uploads")
def list_uploads(ctx: Ctx, limit: Limit = 50, cursor: Cursor = None) -> Page[UploadResource]:
    """Newest first."""
    return page(ctx.resumable.newest(limit + 1, cursor), limit)


@router.get(
    "/uploads/{upload_id}", summary="See what became of an upload", responses=responses(404)
)
def get_upload(ctx: Ctx, upload_id: UploadId) -> UploadResource:
    """`uploading`, `processing`, `ready` with the id of the model or data set, or `refused`."""
    found = ctx.resumable.get(upload_id)
    if found.state is UploadState.PROCESSING:
        ctx.reading.begin(upload_id)
    return found


@router.head("/uploads/{upload_id}", include_in_schema=False)
async def head_upload(request: Request, ctx: Ctx, upload_id: UploadId) -> Response:
    """Where to go on."""

    async def look() -> Response:
        tus.check_version(request.headers)
        found = await to_thread.run_sync(get_upload, ctx, upload_id)
        headers = {"Upload-Length": str(found.length), "Cache-Control": "no-store"}
        if given := await to_thread.run_sync(ctx.resumable.given, upload_id):
            headers["Upload-Metadata"] = given
        return _answer(200, headers | _standing(found))

    return await _speaking(request, look)


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Go on with an upload",
    responses=responses(404, 409, 412, 413, 415, 460)
    | {204: {"description": "Kept.", "headers": HEADERS}},
    openapi_extra=BODY,
)
async def append_upload(
    request: Request,
    ctx: Ctx,
    upload_id: UploadId,
    tus_resumable: Text = None,
    upload_offset: Text = None,
    upload_checksum: Text = None,
) -> Response:
    """The next bytes, from Upload-Offset. Of a body that breaks off, what came is kept, unless it
    has an Upload-Checksum: then all of it is kept or nothing.

    Of several requests at once the last to begin goes on, and the others are told 409.
    """
    return await _speaking(request, lambda: _go_on(request, ctx, upload_id))


async def _go_on(request: Request, ctx: Context, upload_id: str) -> Response:
    tus.check_version(request.headers)
    tus.check_body(request.headers)
    offset = tus.number(request.headers, "Upload-Offset")
    checksum = tus.Checksum.announced(request.headers)
    return _answer(204, _standing(await _append(request, ctx, upload_id, offset, checksum)))


@router.delete(
    "/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Give an upload up",
    responses=responses(404, 412),
)
async def delete_upload(
    request: Request, ctx: Ctx, upload_id: UploadId, tus_resumable: Text = None
) -> Response:
    """Its bytes are deleted; a model or data set that it has become stays."""

    async def end() -> Response:
        tus.check_version(request.headers)
        await to_thread.run_sync(ctx.resumable.delete, upload_id)
        return _answer(204, {})

    return await _speaking(request, end)


@router.post("/uploads/{upload_id}", include_in_schema=False)
async def overridden(request: Request, ctx: Ctx, upload_id: UploadId) -> Response:
    """For clients whose networks know no PATCH: X-HTTP-Method-Override."""
    method = request.headers.get("x-http-method-override", "").upper()
    if method == "PATCH":
        return await append_upload(request, ctx, upload_id)
    if method == "DELETE":
        return await delete_upload(request, ctx, upload_id)
    error = InvalidParameter(
        "Expected PATCH, or POST with the header X-HTTP-Method-Override: PATCH or DELETE.",
        field="X-HTTP-Method-Override",
    )
    return problem_response(request, error)


# --- bytes -------------------------------------------------------------------------------------
async def _append(
    request: Request, ctx: Context, upload_id: str, offset: int, checksum: tus.Checksum | None
) -> UploadResource:
    announced = tus.coming(request.headers)
    to = await to_thread.run_sync(ctx.resumable.resume, upload_id, offset, announced)
    if checksum is None:
        await _receive(request, to)
    else:
        writer = ctx.store.writer()
        try:
            await _receive_checked(request, to, writer, checksum)
        finally:
            writer.abort()
    found = await to_thread.run_sync(ctx.resumable.get, upload_id)
    if found.state is UploadState.PROCESSING:
        ctx.reading.begin(upload_id)
    return found


async def _receive(request: Request, to: Appending) -> None:
    """Keep the body as it comes; of one that breaks off, all that came."""
    pending = bytearray()
    try:
        async for chunk in request.stream():
            pending += chunk
            if len(pending) > to.left:
                raise too_much(to.left)
            if len(pending) >= SEGMENT_BYTES:
                await _flush(pending, to)
    except ClientDisconnect as error:
        await _flush(pending, to)
        raise InvalidUpload("The body broke off; what came of it was kept.") from error
    except TooSlow:
        await _flush(pending, to)
        raise
    request.state.body_read = True
    await _flush(pending, to)


async def _flush(pending: bytearray, to: Appending) -> None:
    data = bytes(pending)
    pending.clear()
    if data:
        await to_thread.run_sync(to.append, data)


async def _receive_checked(
    request: Request, to: Appending, writer: BlobWriter, checksum: tus.Checksum
) -> None:
    """Keep the body once its checksum is known to be right."""
    pending = bytearray()

    def spool() -> None:
        data = bytes(pending)
        pending.clear()
        checksum.update(data)
        writer.write(data)

    try:
        async for chunk in request.stream():
            pending += chunk
            if writer.bytes_written + len(pending) > to.left:
                raise too_much(to.left)
            if len(pending) >= SEGMENT_BYTES:
                await to_thread.run_sync(spool)
        request.state.body_read = True
        await to_thread.run_sync(spool)
    except ClientDisconnect as error:
        raise InvalidUpload("The body broke off before its checksum could be compared.") from error
    checksum.check()

    def keep() -> None:
        with writer.path.open("rb") as file:
            while data := file.read(SEGMENT_BYTES):
                to.append(data)

    await to_thread.run_sync(keep)


# --- answers -----------------------------------------------------------------------------------
def _standing(found: UploadResource) -> dict[str, str]:
    return {"Upload-Offset": str(found.offset), "Upload-Expires": tus.expires(found.expires_at)}


def _answer(status: int, headers: dict[str, str]) -> Response:
    return Response(status_code=status, headers=headers | {"Tus-Resumable": tus.VERSION})


async def _speaking(request: Request, act: Callable[[], Any]) -> Response:
    """Errors too say which version is spoken; HEAD has no body to say more in."""
    try:
        answer = await act()
        assert isinstance(answer, Response)
        return answer
    except SecateurError as error:
        headers = {"Tus-Resumable": tus.VERSION}
        if isinstance(error, ProtocolVersion):
            headers["Tus-Version"] = tus.VERSION
        answer = problem_response(request, error, headers)
        return answer if getattr(request.state, "body_read", False) else Lingering(answer)


class Lingering(Response):
    """An answer to a body that is still coming: the connection stays open for a moment after it.

    A server that closes a connection with unread bytes resets it, and what it has just answered is
    lost on the way: some clients then wait for good.
    """

    def __init__(self, answer: Response) -> None:
        super().__init__(status_code=answer.status_code)
        self.body = answer.body
        self.raw_headers = answer.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it, read on without keeping anything, then end."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with anyio.move_on_after(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request":
                if not message.get("more_body", False):
                    break
        await send({"type": "http.response.body", "body": b""})
