"""Sending a stored file: Range, conditional requests, HEAD, digests (RFC 9110, RFC 9530)."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator

import structlog
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from app.api.problems import problem_response
from app.domain.errors import InternalError, RangeNotSatisfiable
from app.domain.job import ArtifactFile
from app.domain.ports import Store

CACHE = "private, max-age=0, must-revalidate"
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

log = structlog.get_logger(__name__)


def download(request: Request, store: Store, file: ArtifactFile) -> Response:
    """The response to GET or HEAD of a file."""
    etag = f'"{file.sha256}"'
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Digest": f"SHA-256={digest}",
        "Accept-Ranges": "bytes",
        "Cache-Control": CACHE,
        "X-Content-Type-Options": "nosniff",
        # A report holds names that an uploader chose: it may style itself and nothing more.
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    }
    if not file.media_type.startswith("text/") and file.name != "metrics.json":
        headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, file.bytes, 200
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        asked = ""  # The client's part is of another file: send this one whole.
    try:
        bounds = _bounds(asked, file.bytes)
    except RangeNotSatisfiable as error:
        return problem_response(request, error, {"Content-Range": f"bytes */{file.bytes}"})
    if bounds is not None:
        start, end = bounds
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    chunks = _begun(store.read(file.key, start, end), file)
    if status == 200:
        chunks = _verified(chunks, file)
    return StreamingResponse(chunks, status, headers, media_type=file.media_type)


def conditional(request: Request, body: bytes, media_type: str) -> Response:
    """A small body with its ETag, or 304 when the client has it."""
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": CACHE}
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _matches(header: str, etag: str) -> bool:
    candidates = {value.strip().removeprefix("W/") for value in header.split(",")}
    return etag in candidates or "*" in candidates


def _bounds(header: str, size: int) -> tuple[int, int] | None:
    """[start, end) of a single range; None for what may be ignored (other units, many ranges)."""
    match = RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(size - int(last), 0), size
    if start >= size or start >= end:
        raise RangeNotSatisfiable(f"The range {header!r} lies outside the file's {size} bytes.")
    return start, end


def _begun(chunks: Iterator[bytes], file: ArtifactFile) -> Iterator[bytes]:
    """The same with its first chunk read: what is wrong by then is said in the answer's status."""
    try:
        first = next(chunks, b"")
    except InternalError as error:
        log.error("stored_file_unreadable", key=file.key, reason=error.detail)
        raise
    return itertools.chain((first,), chunks)


def _verified(chunks: Iterator[bytes], file: ArtifactFile) -> Iterator[bytes]:
    """Holds the last chunk back until the hash is known to be right.

    A damaged file thus ends short of its Content-Length, which every client notices.
    """
    digest = hashlib.sha256()
    held = b""
    for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if digest.hexdigest() != file.sha256:
        log.error(
            "stored_file_damaged",
            key=file.key,
            expected_sha256=file.sha256,
            found_sha256=digest.hexdigest(),
        )
        raise InternalError(f"The stored file {file.key} is damaged.")
    yield held
