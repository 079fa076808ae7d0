"""The store as a folder. Content-addressed uploads, and job files under keys of their own."""

import hashlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.errors import InternalError, Unavailable
from app.domain.ports import Blob

CHUNK = 1024 * 1024


class FolderWriter:
    """Streams into a temporary file of the same file system; a commit is one rename."""

    def __init__(self, root: Path, suffix: str) -> None:
        self._root = root
        self._path = root / "tmp" / f"{uuid.uuid4().hex}{suffix}"
        self._file = self._path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self.bytes_written = 0

    @property
    def path(self) -> Path:
        """Local file with all that was written so far."""
        return self._path

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append; hashes on the way."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(data)
        self.bytes_written += len(data)

    def commit(self, key: str | None = None) -> Blob:
        """Publish under `key`, by default `blobs/<2 hex>/<sha256>`."""
        os.fsync(self._file.fileno())
        self._file.close()
        digest = self.sha256
        key = key or f"blobs/{digest[:2]}/{digest}"
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replacing an equal file is harmless and makes it young again, so that a sweep of
        # unreferenced files does not take it before its row is written.
        self._path.replace(target)
        os.utime(target)
        _sync_folder(target.parent)
        return Blob(key=key, bytes=self.bytes_written, sha256=digest)

    def abort(self) -> None:
        """Forget everything; harmless after a commit."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class FolderStore:
    """`app.domain.ports.Store` on a local or shared folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        path = self.root / key
        if not path.is_relative_to(self.root) or ".." in path.parts or path == self.root:
            raise InternalError(f"Store key {key!r} leaves the store; this is a defect.")
        return path

    def writer(self, suffix: str = "") -> FolderWriter:
        """Begin a content-addressed write."""
        return FolderWriter(self.root, suffix)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder beside the store's files, gone afterwards."""
        folder = self.root / "tmp"
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as made:
            yield Path(made)

    def put_file(self, key: str | None, source: Path, limit_bytes: int | None = None) -> Blob:
        """Copy a file in under a key of the caller's, or its content's own address.

        No more than the limit of it is copied.
        """
        writer = self.writer()
        try:
            # A confined process wrote this file: never follow a link out of its folder, and never
            # wait for a pipe that nobody writes to.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(source, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise InternalError(f"{source.name} is no regular file.")
                while data := file.read(CHUNK):
                    writer.write(data)
                    if limit_bytes is not None and writer.bytes_written > limit_bytes:
                        raise InternalError(
                            f"{source.name} is larger than the {limit_bytes} bytes it may have."
                        )
            if key is not None:
                self._path(key)
            return writer.commit(key)
        finally:
            writer.abort()

    def fetch(self, key: str, sha256: str, destination: Path) -> None:
        """Copy out and check the hash."""
        digest = hashlib.sha256()
        try:
            with self._path(key).open("rb") as source, destination.open("xb") as target:
                while data := source.read(CHUNK):
                    digest.update(data)
                    target.write(data)
        except FileNotFoundError as error:
            if not self.root.is_dir():
                raise Unavailable(f"The store's folder {self.root} is not there.") from error
            raise InternalError(f"The stored file {key} is missing from the store.") from error
        if digest.hexdigest() != sha256:
            raise InternalError(
                f"The stored file {key} does not have the content that was uploaded: "
                f"expected SHA-256 {sha256}, found {digest.hexdigest()}."
            )

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) in chunks."""
        with self._path(key).open("rb") as file:
            file.seek(start)
            left = end - start
            while left > 0 and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                yield data

    def delete(self, key: str) -> None:
        """Forget a key; harmless when absent."""
        self._path(key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        """Forget all keys under a folder."""
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def content_keys(self, older_than_seconds: float) -> Iterator[str]:
        """Keys of content-addressed files last written before then."""
        for path in (self.root / "blobs").glob("*/*"):
            if _older(path, older_than_seconds):
                yield str(path.relative_to(self.root))

    def job_keys(self, older_than_seconds: float) -> Iterator[str]:
        """Keys of jobs' files last written before then."""
        for path in (self.root / "jobs").glob("*/*/*"):
            if _older(path, older_than_seconds):
                yield str(path.relative_to(self.root))

    def delete_old(self, key: str, older_than_seconds: float) -> bool:
        """Forget a key, unless it has been written again since it was listed."""
        aside = self.root / "tmp" / uuid.uuid4().hex
        try:
            # Out of the way first: a write from now on makes a file of its own.
            self._path(key).rename(aside)
        except FileNotFoundError:
            return False
        if not _older(aside, older_than_seconds):
            aside.rename(self._path(key))
            return False
        aside.unlink()
        return True

    def sweep_temporary(self, older_than_seconds: float) -> None:
        """Delete what interrupted writes left behind."""
        for path in (self.root / "tmp").iterdir():
            if not _older(path, older_than_seconds):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _older(path: Path, seconds: float) -> bool:
    try:
        return path.stat().st_mtime < time.time() - seconds
    except FileNotFoundError:
        return False  # Another reaper was faster, or the write was committed.


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
