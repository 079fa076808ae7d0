"""The tus 1.0 protocol's headers. [https://tus.io/protocols/resumable-upload, version 1.0.0]"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any, cast, get_args

from app.api.multipart import shown_filename
from app.domain.errors import (
    ChecksumMismatch,
    InvalidParameter,
    ProtocolVersion,
    UnsupportedMediaType,
)
from app.domain.upload import UploadKind

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
BODY = "application/offset+octet-stream"
METADATA_LIMIT = 8192
NUMBER = re.compile(r"[0-9]{1,15}")
EXAMPLE = "Upload-Metadata: kind bW9kZWw=,filename bW9kZWwua2VyYXM="


def check_version(headers: Mapping[str, str]) -> None:
    """Raises `ProtocolVersion`."""
    said = headers.get("tus-resumable")
    if said != VERSION:
        raise ProtocolVersion(
            f"Expected the header Tus-Resumable: {VERSION}, got "
            f"{'none' if said is None else repr(said[:40])}. Any tus client sends it.",
            field="Tus-Resumable",
        )


def check_body(headers: Mapping[str, str]) -> None:
    """Raises `UnsupportedMediaType`."""
    said = headers.get("content-type", "")
    if said.split(";")[0].strip().lower() != BODY:
        raise UnsupportedMediaType(
            f"Expected the content type {BODY}, got {said[:80]!r}.", field="Content-Type"
        )


def number(headers: Mapping[str, str], name: str) -> int:
    """A header that counts bytes. Raises `InvalidParameter`."""
    said = headers.get(name.lower(), "")
    if not NUMBER.fullmatch(said):
        raise InvalidParameter(
            f"Expected the header {name} with a number of bytes, got {said[:40]!r}.", field=name
        )
    return int(said)


def coming(headers: Mapping[str, str]) -> int:
    """Bytes that the body is said to have; 0 where it does not say."""
    said = headers.get("content-length", "")
    return int(said) if NUMBER.fullmatch(said) else 0


@dataclass(frozen=True)
class Metadata:
    """What an upload is."""

    kind: UploadKind
    filename: str
    options: str
    """JSON, or empty."""


def metadata(text: str) -> Metadata:
    """The Upload-Metadata header. Raises `InvalidParameter`."""
    if len(text) > METADATA_LIMIT:
        raise _metadata(f"Upload-Metadata has more than {METADATA_LIMIT} characters.")
    given: dict[str, bytes] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = pair.partition(" ")
        try:
            given[name] = base64.b64decode(value.strip(), validate=True)
        except binascii.Error as error:
            raise _metadata(f"The value of {name[:40]!r} is not Base64.") from error
    said = given.get("kind", b"").decode("utf-8", "replace")
    if said not in get_args(UploadKind):
        raise _metadata(
            "Upload-Metadata must say what the file is: expected the kind model or dataset, got "
            f"{said[:40]!r}."
        )
    return Metadata(
        cast(UploadKind, said),
        shown_filename(given.get("filename") or given.get("name") or b""),
        given.get("options", b"").decode("utf-8", "replace"),
    )


def _metadata(what: str) -> InvalidParameter:
    return InvalidParameter(
        f"{what} For example {EXAMPLE} (the values in Base64).", field="Upload-Metadata"
    )


class Checksum:
    """The checksum of a body, as its Upload-Checksum header announces it."""

    def __init__(self, algorithm: str, expected: bytes) -> None:
        self._algorithm = algorithm
        self._expected = expected
        self._hash: Any = hashlib.new(algorithm, usedforsecurity=False)

    @classmethod
    def announced(cls, headers: Mapping[str, str]) -> "Checksum | None":
        """None where there is none. Raises `InvalidParameter`."""
        said = headers.get("upload-checksum")
        if said is None:
            return None
        algorithm, _, value = said.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise InvalidParameter(
                f"There is no checksum {algorithm[:40]!r} here; there are {', '.join(ALGORITHMS)}.",
                field="Upload-Checksum",
            )
        try:
            expected = base64.b64decode(value.strip(), validate=True)
        except binascii.Error as error:
            raise InvalidParameter(
                "Upload-Checksum holds no Base64 after the algorithm.", field="Upload-Checksum"
            ) from error
        return cls(algorithm, expected)

    def update(self, data: bytes) -> None:
        """More of the body."""
        self._hash.update(data)

    def check(self) -> None:
        """Raises `ChecksumMismatch`."""
        if self._hash.digest() != self._expected:
            raise ChecksumMismatch(
                f"The {self._algorithm} of what came is not the announced one. Nothing of it was "
                "kept: send it again from the same offset.",
                field="Upload-Checksum",
            )


def expires(moment: datetime) -> str:
    """As the Upload-Expires header says it."""
    return format_datetime(moment, usegmt=True)
