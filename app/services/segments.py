"""The bytes of an unfinished upload: segments in the store, each named by where it begins.

A segment is written once and never replaced, and who adds one has seen that the segments before it
end there. So they form one chain, whoever writes at the same time, and how far an upload has come
is what the store holds.
"""

from collections.abc import Iterator

from app.domain.ports import Store, Stored

SEGMENT_BYTES = 4 * 1024 * 1024
"""No more than this of an upload is lost with the process that receives it."""


def folder(upload: str) -> str:
    """Where an upload's segments lie."""
    return f"uploads/{upload}"


def put(store: Store, upload: str, start: int, data: bytes) -> bool:
    """Add a segment; False where there is one already."""
    return store.put_new(_key(upload, start), data)


def end(store: Store, upload: str, known: int) -> int:
    """Where the chain ends.

    Args:
        store: where the segments lie.
        upload: its id.
        known: a place that the chain surely reaches.
    """
    return max([known, *(_start(s) + s.bytes for s in _from(store, upload, known))])


def read(store: Store, upload: str) -> Iterator[bytes]:
    """All bytes, in order."""
    for segment in store.listed(folder(upload)):
        yield from store.read(segment.key, 0, segment.bytes)


def _from(store: Store, upload: str, start: int) -> Iterator[Stored]:
    """Segments that begin there or later."""
    return store.listed(folder(upload), _key(upload, start - 1) if start else "")


def _key(upload: str, start: int) -> str:
    return f"{folder(upload)}/{start:015d}"


def _start(segment: Stored) -> int:
    return int(segment.key.rsplit("/", 1)[-1])
