"""Memory that a file's runtime takes: the process's resident pages, before and at their most."""

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STATM = Path("/proc/self/statm")
INTERVAL_SECONDS = 0.0005


def peak_added(run: Callable[[], object]) -> int | None:
    """Bytes of resident memory that a call adds to this process at its peak.

    Other threads must rest meanwhile. Pages that the process holds free are given back first, as
    far as its allocator does that, or small models would be found to need none. Not of a child:
    jobs may not start any.

    Args:
        run: what is looked at; what it returns is held until the last look.

    Returns:
        None where the system does not tell.
    """
    try:
        _give_back()
        before = _resident()
        highest = [before]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(INTERVAL_SECONDS):
                highest.append(max(highest.pop(), _resident()))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            held = run()
            after = _resident()
            del held
        finally:
            over.set()
            watcher.join()
    except OSError:
        return None
    return max(after, highest[0]) - before


def _resident() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _give_back() -> None:
    gc.collect()
    # Of glibc; other C libraries go without.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
