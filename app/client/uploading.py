"""Sending models and data sets: small ones whole, large ones in pieces that survive a broken line.

Large files go by tus [https://tus.io/protocols/resumable-upload, 1.0.0]: each piece with its
SHA-256, and after a break from where the service says that it is.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import httpx

from app.client.errors import InvalidRequest, error_of, failure, unreachable
from app.client.flows import (
    ATTEMPTS,
    BUSY,
    PATIENCE_SECONDS,
    Call,
    Emit,
    Flow,
    Pause,
    asked_pause,
    backoff,
    post,
    send,
)
from app.client.resources import Sent, UploadState
from app.domain.errors import NotFound, SecateurError

Kind = Literal["model", "dataset"]

WHOLE_BYTES = 8 * 1024 * 1024
"""Up to here a file is one request, which is begun anew when it breaks off."""
PIECE_BYTES = 4 * 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
GO_ON = frozenset({408, 409, 422, 460}) | BUSY
"""Answers to a piece after which the upload goes on from where the service is: too slow, another
offset, a body that broke off, a checksum that differs."""


def upload(kind: Kind, path: str | Path, options: Mapping[str, Any] | None = None) -> Flow[Any]:
    """The resource that a file becomes, as JSON. Emits `Sent`.

    Raises:
        InvalidRequest: there is no such file.
        SecateurError: the service refuses it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= WHOLE_BYTES:
                return (yield from _whole(kind, path.name, file.read(), options))
            return (yield from _in_pieces(kind, path.name, file, size, options))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}.") from error


def _whole(kind: Kind, name: str, content: bytes, options: Mapping[str, Any] | None) -> Flow[Any]:
    fields = {"options": json.dumps(options)} if options else {}
    files = {"file": (name, content)}
    answer = yield from send(post(f"/v1/{kind}s", files=files, data=fields))
    yield Emit(Sent(name=name, sent=len(content), total=len(content)))
    return answer.json()


def _in_pieces(
    kind: Kind, name: str, file: BinaryIO, size: int, options: Mapping[str, Any] | None
) -> Flow[Any]:
    given = {"kind": kind, "filename": name} | ({"options": json.dumps(options)} if options else {})
    encoded = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in given.items())
    headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": ",".join(encoded)}
    begun = yield from send(Call("POST", "/v1/uploads", headers=headers))
    place = begun.headers["location"]
    offset = 0
    while offset < size:
        yield Emit(Sent(name=name, sent=offset, total=size))
        offset = yield from _piece(place, file, offset)
    yield Emit(Sent(name=name, sent=size, total=size))
    return (yield from _become(place, kind))


def _piece(place: str, file: BinaryIO, offset: int) -> Flow[int]:
    """Where the upload ends after the next piece, or after the service was asked where it is."""
    for attempt in range(1, ATTEMPTS + 1):
        file.seek(offset)
        piece = file.read(PIECE_BYTES)
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = TUS | {
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {digest}",
            "Content-Type": "application/offset+octet-stream",
        }
        try:
            answer = yield Call("PATCH", place, headers=headers, more={"content": piece})
        except httpx.TransportError as error:
            if attempt == ATTEMPTS:
                raise unreachable(error, "The upload broke off. ") from error
            pause = backoff(attempt)
        else:
            if answer.is_success:
                return int(answer.headers["upload-offset"])
            if answer.status_code not in GO_ON or attempt == ATTEMPTS:
                raise failure(answer)
            pause = asked_pause(answer, attempt)
        yield Pause(pause)
        look = Call("HEAD", place, headers=TUS)
        standing = yield from send(look, patience_seconds=PATIENCE_SECONDS)
        if (there := int(standing.headers["upload-offset"])) > offset:
            return there
    raise AssertionError("unreachable")


def _become(place: str, kind: Kind) -> Flow[Any]:
    """What the file is once the service has read it."""
    pause = 0.1
    while True:
        answer = yield from send(Call("GET", place), patience_seconds=PATIENCE_SECONDS)
        upload = UploadState.model_validate(answer.json())
        if upload.done:
            break
        yield Pause(pause)
        pause = min(pause * 1.5, 2.0)
    id_ = upload.model if kind == "model" else upload.dataset
    if id_ is None:
        raise _refusal(upload)
    return (yield from send(Call("GET", f"/v1/{kind}s/{id_}"))).json()


def _refusal(upload: UploadState) -> SecateurError:
    if upload.error is None:
        return NotFound(f"The upload {upload.id} has become nothing; send the file again.")
    return error_of(upload.error)
