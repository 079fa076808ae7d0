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
from app.domain.ports import Blob, Stored

CHUNK = 1024 * 1024


def pieces(source: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
    """Content of a file that a confined process wrote.

    Raises `InternalError` where it is no regular file or larger than the limit, and `OSError`.
    """
    # Never follow a link out of its folder, and never wait for a pipe that nobody writes to.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(source, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InternalError(f"{source.name} is no regular file.")
        read = 0
        while data := file.read(CHUNK):
            read += len(data)
            if limit_bytes is not None and read > limit_bytes:
                raise InternalError(
                    f"{source.name} is larger than the {limit_bytes} bytes it may have."
                )
            yield data


def check_key(key: str) -> None:
    """Raises `InternalError` for a key that could lead out of the store."""
    parts = key.split("/")
    if not key or key.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise InternalError(f"Store key {key!r} leaves the store; this is a defect.")


def damaged(key: str, expected: str, found: str) -> InternalError:
    """What is said of a file whose content has changed."""
    return InternalError(
        f"The stored file {key} does not have the content that was uploaded: expected SHA-256 "
        f"{expected}, found {found}."
    )


def missing(key: str) -> InternalError:
    """What is said of a file that is not there."""
    return InternalError(f"The stored file {key} is missing from the store.")


def content_key(sha256: str) -> str:
    """The address of a content."""
    return f"blobs/{sha256[:2]}/{sha256}"


@contextmanager
def writing() -> Iterator[None]:
    """A full disk, or a file system that is away, is the store's trouble and passes."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"The store cannot be written: {error.strerror or error}. Try again when its disk has "
            "room and answers."
        ) from error


class FolderWriter:
    """Streams into a temporary file of the same file system; a commit is one rename."""

    def __init__(self, root: Path, suffix: str) -> None:
        self._root = root
        self._path = root / "tmp" / f"{uuid.uuid4().hex}{suffix}"
        with writing():
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
        with writing():
            while view:
                view = view[self._file.write(view) :]
        self._hash.update(data)
        self.bytes_written += len(data)

    def commit(self, key: str | None = None) -> Blob:
        """Publish under `key`, by default `blobs/<2 hex>/<sha256>`."""
        digest = self.sha256
        key = key or content_key(digest)
        target = self._root / key
        with writing():
            os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            # Replacing an equal file is harmless and makes it young again, so that a sweep of
            # unreferenced files does not take it before its row is written.
            self._path.replace(target)
            os.utime(target)
            _sync_folder(target.parent)
        return Blob(key=key, bytes=self.bytes_written, sha256=digest)

    def publish_new(self, target: Path) -> bool:
        """Publish under a path that is free; False where it is taken."""
        with writing():
            os.fsync(self._file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._path, target)  # Unlike a rename, it replaces nothing.
            except FileExistsError:
                return False
            _sync_folder(target.parent)
            return True

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
        check_key(key)
        return self.root / key

    def ping(self) -> None:
        """Whether something can be written."""
        self.writer().abort()

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
            for data in pieces(source, limit_bytes):
                writer.write(data)
            if key is not None:
                self._path(key)
            return writer.commit(key)
        finally:
            writer.abort()

    def put_new(self, key: str, data: bytes) -> bool:
        """Write a small file under a key that nobody has taken yet."""
        target = self._path(key)
        writer = self.writer()
        try:
            writer.write(data)
            return writer.publish_new(target)
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
            raise missing(key) from error
        except FileExistsError:
            raise
        except OSError as error:
            destination.unlink(missing_ok=True)  # So that another try can begin anew.
            raise Unavailable(
                f"The stored file {key} could not be copied: {error.strerror or error}."
            ) from error
        if digest.hexdigest() != sha256:
            raise damaged(key, sha256, digest.hexdigest())

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) in chunks."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError as error:
            raise missing(key) from error
        with file:
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

    def listed(self, folder: str, after: str = "") -> Iterator[Stored]:
        """Every file below a folder."""
        for path, folders, names in os.walk(self._path(folder)):
            folders.sort()
            for name in sorted(names):
                file = Path(path, name)
                key = str(file.relative_to(self.root))
                if key > after and (found := _stat(file)) is not None:
                    age = time.time() - found.st_mtime
                    yield Stored(key=key, bytes=found.st_size, age_seconds=age)

    def content_keys(self, older_than_seconds: float) -> Iterator[str]:
        """Keys of content-addressed files last written before then."""
        for stored in self.listed("blobs"):
            if stored.age_seconds > older_than_seconds:
                yield stored.key

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

    def swept(self) -> Iterator[Stored]:
        """Nothing: a rename takes a file out of the way of writers, so none is lost."""
        return iter(())

    def restore(self, key: str) -> None:
        """There is nothing to bring back."""

    def purge(self, key: str) -> None:
        """There is nothing to forget."""

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
    found = _stat(path)
    return found is not None and found.st_mtime < time.time() - seconds


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None  # Another reaper was faster, or the write was committed.


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
