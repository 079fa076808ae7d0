"""Any store, with its operations timed."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from app.observe.metrics import STORE, STORE_ERRORS, store_operation

S = TypeVar("S")
OPERATIONS = ("put_file", "fetch", "delete", "delete_prefix", "delete_old")


def measured(store: S) -> S:
    """The same store, which from now on tells how long it takes.

    Its methods are wrapped, instead of the store in a class of its own, so that every kind of
    store keeps its type and what it can do beyond the port.
    """
    # Named as strings: a store is whatever answers to them.
    own: Any = store
    for name in OPERATIONS:
        setattr(own, name, _timed(name, getattr(own, name)))
    own.read = _timed_pieces(own.read)
    own.writer = _timed_writer(own.writer)
    return store


def _timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with store_operation(name):
            return call(*args, **kwargs)

    return timed


def _timed_pieces(read: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    """Without the time that the one who asked spends on each piece: a slow client is not the
    store's fault."""

    @functools.wraps(read)
    def timed(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        pieces, spent = read(*args, **kwargs), 0.0
        try:
            while True:
                began = time.perf_counter()
                try:
                    piece = next(pieces, None)
                except Exception:
                    STORE_ERRORS.labels("read").inc()
                    raise
                spent += time.perf_counter() - began
                if piece is None:
                    return
                yield piece
        finally:
            STORE.labels("read").observe(spent)

    return timed


def _timed_writer(writer: Callable[..., Any]) -> Callable[..., Any]:
    """Writing comes at the client's pace; what the store adds is the commit."""

    @functools.wraps(writer)
    def timed(*args: Any, **kwargs: Any) -> Any:
        made = writer(*args, **kwargs)
        made.commit = _timed("commit", made.commit)
        return made

    return timed
