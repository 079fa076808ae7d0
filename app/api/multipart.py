"""Streaming multipart uploads: the file goes to the store as it arrives, hashed on the way.

Starlette's own form parser would write each upload to a temporary file first, and copy it.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.api.context import Context
from app.domain.errors import InvalidUpload, TooLarge
from app.domain.ports import BlobWriter

FIELD_LIMIT_BYTES = 64 * 1024
FLUSH_BYTES = 1024 * 1024
PART_LIMIT = 10
OVERHEAD_BYTES = FIELD_LIMIT_BYTES * PART_LIMIT
"""What a form may hold beside its file."""
LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass
class Upload:
    """A received form: the file is in `writer`, not yet committed."""

    writer: BlobWriter
    filename: str
    fields: dict[str, str]


@dataclass
class _Receiver:
    """Callbacks of the parser; collects the file's bytes until they are flushed."""

    allowed: frozenset[str]
    pending: bytearray = field(default_factory=bytearray)
    fields: dict[str, bytearray] = field(default_factory=dict)
    filename: str | None = None
    ended: bool = False
    _name: str = ""
    _parts: int = 0
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _headers: dict[str, str] = field(default_factory=dict)

    def on_part_begin(self) -> None:
        """A part begins."""
        self._headers = {}
        self._parts += 1
        if self._parts > PART_LIMIT:
            raise InvalidUpload(f"The form has more than {PART_LIMIT} parts.")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def on_header_end(self) -> None:
        """A header is complete."""
        # Latin-1 keeps every byte: what the bytes mean is known once the options are apart.
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        """The part's headers are complete: which field is it?"""
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self.filename is not None:
                raise InvalidUpload("The form has two fields called file; send one.", field="file")
            if b"filename" not in options:
                raise InvalidUpload(
                    "The field file holds text and no file; with curl, mind the @: -F file=@FILE.",
                    field="file",
                )
            self.filename = shown_filename(options[b"filename"])
        elif self._name not in self.allowed:
            known = ", ".join(sorted({"file", *self.allowed}))
            raise InvalidUpload(
                f"The form has a field {self._name!r}; known fields are: {known}.",
                field=self._name or None,
            )
        else:
            self.fields.setdefault(self._name, bytearray())

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """A piece of the part's content."""
        if self._name == "file":
            self.pending += data[start:end]
            return
        value = self.fields[self._name]
        value += data[start:end]
        if len(value) > FIELD_LIMIT_BYTES:
            raise TooLarge(
                f"The field {self._name} is larger than {FIELD_LIMIT_BYTES} bytes.",
                field=self._name,
            )

    def on_end(self) -> None:
        """The closing boundary came."""
        self.ended = True


async def take(
    request: Request,
    ctx: Context,
    writer: BlobWriter,
    fields: frozenset[str] = frozenset(),
) -> Upload:
    """Read an upload, as far as the service's limit and the caller's quota go.

    Raises what `receive` raises, and `StorageFull`.
    """
    declared = request.headers.get("content-length", "")
    file_bytes = int(declared) - OVERHEAD_BYTES if LENGTH.fullmatch(declared) else 0
    limit = ctx.settings.upload_limit_bytes
    room = await to_thread.run_sync(ctx.uploads.room, min(file_bytes, limit))
    try:
        return await receive(request, writer, min(limit, room), fields)
    except TooLarge as error:
        if error.field == "file" and room < limit:
            await to_thread.run_sync(ctx.uploads.room, room + 1)
        raise


async def receive(
    request: Request,
    writer: BlobWriter,
    limit_bytes: int,
    fields: frozenset[str] = frozenset(),
) -> Upload:
    """Read the request's form; the caller commits or aborts the writer.

    Raises:
        InvalidUpload: not multipart, malformed, cut off, no field `file`, or unknown fields.
        TooLarge: the file is over `limit_bytes`.
    """
    receiver = _Receiver(fields)
    callbacks: Any = {
        name: getattr(receiver, name)
        for name in (
            "on_part_begin",
            "on_part_data",
            "on_header_field",
            "on_header_value",
            "on_header_end",
            "on_headers_finished",
            "on_end",
        )
    }
    declared = request.headers.get("content-length", "")
    body_limit_bytes = limit_bytes + OVERHEAD_BYTES
    if LENGTH.fullmatch(declared) and int(declared) > body_limit_bytes:
        raise _too_large(limit_bytes)
    received = 0
    try:
        parser = MultipartParser(_boundary(request), callbacks)
        async for chunk in request.stream():
            received += len(chunk)
            if received > body_limit_bytes:
                raise _too_large(limit_bytes)  # Also for what follows the closing boundary.
            parser.write(chunk)
            if len(receiver.pending) >= FLUSH_BYTES:
                await _flush(receiver, writer, limit_bytes)
        await _flush(receiver, writer, limit_bytes)
        parser.finalize()
    except FormParserError as error:
        raise InvalidUpload(f"The multipart body is malformed: {error}.") from error
    except ClientDisconnect as error:
        raise InvalidUpload("The upload was cut off before its end.") from error
    if not receiver.ended:
        raise InvalidUpload("The multipart body ends before its closing boundary; send it again.")
    if receiver.filename is None:
        raise InvalidUpload(
            "The form has no field called file: send the upload as multipart/form-data with a "
            "file in the field file, as in curl -F file=@FILE.",
            field="file",
        )
    if writer.bytes_written == 0:
        raise InvalidUpload("The uploaded file is empty.", field="file")
    return Upload(
        writer,
        receiver.filename,
        {name: value.decode("utf-8", "replace") for name, value in receiver.fields.items()},
    )


def shown_filename(raw: bytes) -> str:
    """The last part of a path that a browser sent, without what cannot be shown or stored."""
    name = raw.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(filter(str.isprintable, name)) or "upload"


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidUpload(
            "Expected a multipart/form-data body with a field called file, got content type "
            f"{request.headers.get('content-type', 'none')!r}. With curl: -F file=@FILE."
        )
    return boundary


async def _flush(receiver: _Receiver, writer: BlobWriter, limit_bytes: int) -> None:
    if writer.bytes_written + len(receiver.pending) > limit_bytes:
        raise _too_large(limit_bytes)
    data = bytes(receiver.pending)
    receiver.pending.clear()
    if data:
        await to_thread.run_sync(writer.write, data)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"The upload is larger than the {limit_bytes} bytes that this service accepts "
        "(setting SECATEUR_UPLOAD_LIMIT_BYTES).",
        field="file",
    )
