"""Fetching files: whole or not at all, and from where it broke off."""

import hashlib
from io import BufferedRandom
from pathlib import Path

import httpx

from app.client.errors import Damaged, InvalidRequest, failure, unreachable
from app.client.flows import (
    ATTEMPTS,
    BUSY,
    Call,
    Chunk,
    Close,
    Flow,
    Open,
    Pause,
    Read,
    asked_pause,
    backoff,
)


def target(name: str, to: str | Path) -> Path:
    """Where a file goes: into a folder under its own name, or to the path that is no folder.

    Raises:
        InvalidRequest: the name would lead elsewhere.
    """
    if Path(name).name != name or name in (".", ".."):
        raise InvalidRequest(f"{name!r} is no name of a file; job.artifacts() lists them.")
    path = Path(to)
    return path / name if path.is_dir() or str(to).endswith("/") else path


def download(url: str, to: Path) -> Flow[Path]:
    """Fetch a file; its hash is checked before it gets its name.

    Raises:
        Damaged: the bytes are not those that the service announced.
        Unreachable: the connection broke again and again.
        InvalidRequest: it cannot be written.
    """
    part = to.with_name(to.name + ".part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w+b") as file:
            yield from _fetch(url, to.name, file)
        part.replace(to)
    except OSError as error:
        raise InvalidRequest(f"{to} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return to


def _fetch(url: str, name: str, file: BufferedRandom) -> Flow[None]:
    etag = ""
    for attempt in range(1, ATTEMPTS + 1):
        there = file.tell()
        headers = {"Range": f"bytes={there}-", "If-Range": etag} if there and etag else {}
        # A transfer encoding would make other bytes of it than those that are hashed.
        headers["Accept-Encoding"] = "identity"
        try:
            answer = yield Open(Call("GET", url, headers=headers))
            if answer.is_error:
                yield Read()
                if answer.status_code not in BUSY or attempt == ATTEMPTS:
                    raise failure(answer)
                yield Pause(asked_pause(answer, attempt))
                continue
            etag = answer.headers.get("etag", "")
            if answer.status_code != 206:
                file.seek(0)
                file.truncate()
            while (chunk := (yield Chunk())) is not None:
                file.write(chunk)
            yield Close()
            break
        except httpx.TransportError as error:
            if attempt == ATTEMPTS:
                raise unreachable(
                    error, f"The download of {name} broke off again and again; try again. "
                ) from error
            yield Pause(backoff(attempt))
    _check(file, etag, name)


def _check(file: BufferedRandom, etag: str, name: str) -> None:
    file.seek(0)
    if hashlib.file_digest(file, "sha256").hexdigest() != etag.strip('"'):
        raise Damaged(f"The download of {name} was damaged on the way; try again.")
