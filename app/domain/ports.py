"""What the services need from the outside, as protocols; `app.adapters` implements them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from app.domain.base import Record
from app.domain.queues import QueueName


class Blob(Record):
    """Bytes at rest."""

    key: str
    bytes: int
    sha256: str


class Stored(Record):
    """A key and what is known of it without reading it."""

    key: str
    bytes: int
    age_seconds: float
    """Since it was last written."""


def content_sha256(key: str) -> str:
    """SHA-256 of what lies under a content's own address."""
    return key.rsplit("/", 1)[-1]


class BlobWriter(Protocol):
    """A write in progress. Nothing is visible under any key before `commit`."""

    @property
    def bytes_written(self) -> int:
        """Bytes so far."""

    def write(self, data: bytes) -> None:
        """Append; hashes on the way."""

    @property
    def path(self) -> Path:
        """Local file with all that was written so far, readable before the commit."""

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""

    def commit(self) -> Blob:
        """Publish under the content's own address."""

    def abort(self) -> None:
        """Forget everything; harmless after a commit."""


class Store(Protocol):
    """Files by key. Writes are atomic; every whole read is checked against its hash.

    Every method raises `Unavailable` when the store does not answer, or cannot write.
    """

    def ping(self) -> None:
        """Raises `Unavailable` when the store does not answer."""

    def writer(self, suffix: str = "") -> BlobWriter:
        """Begin a content-addressed write."""

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty local folder for a while, on the store's own disk where it has one."""

    def put_file(self, key: str | None, source: Path, limit_bytes: int | None = None) -> Blob:
        """Copy a file in under a key of the caller's, or the content's own address.

        An existing one is replaced. Raises `InternalError` where it is no regular file or larger
        than the limit.
        """

    def put_new(self, key: str, data: bytes) -> bool:
        """Write a small file under a key of the caller's; False where the key is taken."""

    def fetch(self, key: str, sha256: str, destination: Path) -> None:
        """Copy out; raises `InternalError` when the content is not what its hash says."""

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes [start, end) in chunks."""

    def delete(self, key: str) -> None:
        """Forget a key; harmless when absent."""

    def delete_prefix(self, prefix: str) -> None:
        """Forget all keys under a folder."""

    def listed(self, folder: str, after: str = "") -> Iterator[Stored]:
        """What lies below a folder; within one folder by name, from behind the key `after`."""

    def content_keys(self, older_than_seconds: float) -> Iterator[str]:
        """Keys of content-addressed files last written before then."""

    def delete_old(self, key: str, older_than_seconds: float) -> bool:
        """Forget a key last written before then; False when it is newer, or absent.

        Content that is written again at the same moment survives, at the latest by `restore`.
        """

    def swept(self) -> Iterator[Stored]:
        """What `delete_old` forgot and can still bring back."""

    def restore(self, key: str) -> None:
        """Bring back what `delete_old` forgot; harmless when there is nothing to bring back."""

    def purge(self, key: str) -> None:
        """Forget it for good."""

    def sweep_temporary(self, older_than_seconds: float) -> None:
        """Delete what interrupted writes of this machine left behind."""


class Queue(Protocol):
    """Wakes workers. It may lose or repeat messages: the database row is the truth."""

    def wake(self, queue: QueueName) -> None:
        """Tell one worker of a queue that there is work; raises `Unavailable`."""

    def depth(self, queue: QueueName) -> int:
        """Messages waiting; raises `Unavailable`."""

    def ping(self) -> None:
        """Raises `Unavailable` when the broker does not answer."""
