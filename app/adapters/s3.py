"""The store in a bucket of S3, or of anything that speaks its protocol.

Every write is one request, or one multipart upload that shows nothing before it is completed. An
ETag is no checksum (of a multipart upload it is a hash of hashes), so content is hashed here, on
its way in and on its way out. Uploads are spooled to a local folder: what reads them needs a file.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store as Bucket

from app.adapters.store import (
    CHUNK,
    FolderStore,
    FolderWriter,
    check_key,
    content_key,
    damaged,
    missing,
    pieces,
)
from app.domain.errors import InternalError, Unavailable
from app.domain.ports import Blob, Stored

PART_BYTES = 8 * CHUNK
PARTS_AT_ONCE = 4
RETRIES = 4
CONNECT_SECONDS = 5.0
LONGEST_REQUEST = timedelta(hours=1)
"""A large answer may take long as a whole, as long as pieces of it keep coming."""
SWEPT = "swept"
"""Folder of what `delete_old` forgot: S3 has no rename, so a file that is written again between
the look at its age and its deletion would be lost."""
STATUS = re.compile(r"status code: (\d{3})")


class S3Writer:
    """Spools into a local file; a commit sends it."""

    def __init__(self, store: "S3Store", spool: FolderWriter) -> None:
        self._store = store
        self._spool = spool

    @property
    def bytes_written(self) -> int:
        """Bytes so far."""
        return self._spool.bytes_written

    @property
    def path(self) -> Path:
        """Local file with all that was written so far."""
        return self._spool.path

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._spool.sha256

    def write(self, data: bytes) -> None:
        """Append; hashes on the way."""
        self._spool.write(data)

    def commit(self) -> Blob:
        """Publish under the content's own address."""
        key = content_key(self.sha256)
        self._store.send(key, self.path)
        self._spool.abort()
        return Blob(key=key, bytes=self.bytes_written, sha256=self.sha256)

    def abort(self) -> None:
        """Forget everything; harmless after a commit."""
        self._spool.abort()


class S3Store:
    """`app.domain.ports.Store` in a bucket.

    Args:
        url: s3://bucket/prefix.
        local: folder for spooled uploads and scratch files.
        endpoint: address of another service than Amazon's.
        region: of the bucket.
        answer_seconds: how long the service may be silent within a request.

    Credentials come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    `AWS_SESSION_TOKEN`), a web identity or the instance, as obstore finds them.
    """

    def __init__(
        self,
        url: str,
        local: Path,
        endpoint: str = "",
        region: str = "",
        answer_seconds: float = 20.0,
    ) -> None:
        parsed = urlsplit(url)
        self._local = FolderStore(local)
        self._bucket = Bucket(
            parsed.netloc,
            prefix=parsed.path.strip("/") or None,
            config={"endpoint": endpoint, "region": region or "us-east-1"}
            if endpoint
            else ({"region": region} if region else {}),
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, answer_seconds)),
                "read_timeout": timedelta(seconds=answer_seconds),
                "timeout": LONGEST_REQUEST,
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=answer_seconds),
            },
        )

    def ping(self) -> None:
        """Asks for the first key."""
        with _asking("list its files"):
            next(iter(obstore.list(self._bucket, chunk_size=1)), None)

    def writer(self, suffix: str = "") -> S3Writer:
        """Begin a content-addressed write."""
        return S3Writer(self, self._local.writer(suffix))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty local folder, gone afterwards."""
        with self._local.scratch() as folder:
            yield folder

    # --- writing ---------------------------------------------------------------------------
    def send(self, key: str, file: Path) -> None:
        """Put a local file of our own under a key."""
        with _asking(f"take {key}"):
            obstore.put(
                self._bucket, key, file, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )

    def put_file(self, key: str | None, source: Path, limit_bytes: int | None = None) -> Blob:
        """Copy a file in under a key of the caller's, or its content's own address."""
        if key is None:
            # The address is known when all of it was read: hash first, then send what is hashed
            # once more on its way.
            digest = hashlib.sha256()
            for piece in pieces(source, limit_bytes):
                digest.update(piece)
            blob = self._put(content_key(digest.hexdigest()), source, limit_bytes)
            if blob.sha256 != digest.hexdigest():
                raise InternalError(f"{source.name} changed while it was stored.")
            return blob
        check_key(key)
        return self._put(key, source, limit_bytes)

    def _put(self, key: str, source: Path, limit_bytes: int | None) -> Blob:
        hashed = _Hashed(pieces(source, limit_bytes))
        with _asking(f"take {key}"):
            first = b"".join(_up_to(hashed, PART_BYTES))
            if len(first) < PART_BYTES:
                obstore.put(self._bucket, key, first)
            else:
                obstore.put(
                    self._bucket,
                    key,
                    _chained(first, hashed),
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
        return Blob(key=key, bytes=hashed.bytes, sha256=hashed.sha256)

    def put_new(self, key: str, data: bytes) -> bool:
        """Write a small file under a key that nobody has taken yet."""
        check_key(key)
        try:
            with _asking(f"take {key}"):
                obstore.put(self._bucket, key, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    # --- reading ---------------------------------------------------------------------------
    def fetch(self, key: str, sha256: str, destination: Path) -> None:
        """Copy out and check the hash."""
        digest = hashlib.sha256()
        try:
            with destination.open("xb") as target:
                for piece in self._stream(key, None):
                    digest.update(piece)
                    target.write(piece)
        except Unavailable:
            destination.unlink()  # So that another try can begin anew.
            raise
        if digest.hexdigest() != sha256:
            raise damaged(key, sha256, digest.hexdigest())

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) in chunks."""
        if start < end:
            yield from self._stream(key, (start, end))

    def _stream(self, key: str, bounds: tuple[int, int] | None) -> Iterator[bytes]:
        check_key(key)
        with _asking(f"give {key}"):
            answer = self._get(key, bounds)
            for piece in answer.stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    def _get(self, key: str, bounds: tuple[int, int] | None) -> Any:
        options: Any = {"range": bounds} if bounds else {}
        try:
            return obstore.get(self._bucket, key, options=options)
        except FileNotFoundError:
            pass
        self.restore(key)
        try:
            return obstore.get(self._bucket, key, options=options)
        except FileNotFoundError:
            raise missing(key) from None

    def listed(self, folder: str, after: str = "") -> Iterator[Stored]:
        """Every file below a folder."""
        check_key(folder)
        now = datetime.now(UTC)
        with _asking(f"list {folder}"):
            for some in obstore.list(self._bucket, folder, offset=after or None):
                for found in some:
                    age = (now - found["last_modified"]).total_seconds()
                    yield Stored(key=found["path"], bytes=found["size"], age_seconds=age)

    def content_keys(self, older_than_seconds: float) -> Iterator[str]:
        """Keys of content-addressed files last written before then."""
        for stored in self.listed("blobs"):
            if stored.age_seconds > older_than_seconds:
                yield stored.key

    # --- deleting --------------------------------------------------------------------------
    def delete(self, key: str) -> None:
        """Forget a key; harmless when absent."""
        check_key(key)
        with _asking(f"delete {key}"):
            try:
                obstore.delete(self._bucket, key)
            except FileNotFoundError:
                pass  # S3 does not mind; some that speak its protocol do.

    def delete_prefix(self, prefix: str) -> None:
        """Forget all keys under a folder."""
        for stored in list(self.listed(prefix)):
            self.delete(stored.key)

    def delete_old(self, key: str, older_than_seconds: float) -> bool:
        """Move a key that is old aside."""
        check_key(key)
        with _asking(f"delete {key}"):
            try:
                written = obstore.head(self._bucket, key)["last_modified"]
                if (datetime.now(UTC) - written).total_seconds() <= older_than_seconds:
                    return False
                obstore.copy(self._bucket, key, f"{SWEPT}/{key}")
            except FileNotFoundError:
                return False
        self.delete(key)
        return True

    def swept(self) -> Iterator[Stored]:
        """What `delete_old` forgot and can still bring back."""
        for stored in self.listed(SWEPT):
            yield stored.model_copy(update={"key": stored.key.removeprefix(f"{SWEPT}/")})

    def restore(self, key: str) -> None:
        """Bring back what `delete_old` forgot, unless it has been written again."""
        check_key(key)
        with _asking(f"restore {key}"):
            try:
                obstore.head(self._bucket, key)
            except FileNotFoundError:
                try:
                    obstore.copy(self._bucket, f"{SWEPT}/{key}", key)
                except FileNotFoundError:
                    return
        self.purge(key)

    def purge(self, key: str) -> None:
        """Forget it for good."""
        self.delete(f"{SWEPT}/{key}")

    def sweep_temporary(self, older_than_seconds: float) -> None:
        """Delete what interrupted writes of this machine left behind."""
        self._local.sweep_temporary(older_than_seconds)


class _Hashed:
    """Pieces, hashed and counted as they pass."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._source)
        self._hash.update(piece)
        self.bytes += len(piece)
        return piece


def _up_to(source: Iterator[bytes], enough: int) -> Iterator[bytes]:
    size = 0
    while size < enough and (piece := next(source, None)) is not None:
        size += len(piece)
        yield piece


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """What goes wrong in the service, in words: its own carry addresses and the access key's id."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise
        raise Unavailable(
            f"The store could not {what}: its bucket is not there (setting SECATEUR_STORE_URL)."
        ) from None
    except AlreadyExistsError:
        raise
    except (PermissionDeniedError, UnauthenticatedError):
        raise Unavailable(
            f"The store refuses to {what}: its credentials (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY) are missing or may not do this."
        ) from None
    except BaseError as error:
        status = STATUS.search(str(error))
        said = f"it answered {status[1]}" if status else "it does not answer"
        raise Unavailable(f"The store could not {what}: {said}. Try again in a moment.") from None
