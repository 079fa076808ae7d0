"""Reads resumable uploads whose bytes are all there, beside the requests of an API process.

What a process that died has begun is found again by its lease, here or in another process.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from app.domain.errors import SecateurError
from app.services.resumable import READING_LEASE_SECONDS, Resumable

LOOK_SECONDS = 3.0

log = structlog.get_logger(__name__)


class Reading:
    """A few uploads at once.

    Args:
        uploads: of any owner.
        at_once: how many are read at the same time; more wait.
    """

    def __init__(self, uploads: Resumable, at_once: int) -> None:
        self._uploads = uploads
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="reading")
        self._here: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, name="reading", daemon=True)

    def start(self) -> None:
        """Begin to look for uploads that wait."""
        self._looking.start()

    def close(self) -> None:
        """Finish what is being read; what waits is left to other processes."""
        self._stop.set()
        self._looking.join()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, id_: str) -> None:
        """Read an upload, soon."""
        with self._lock:
            if id_ in self._here or self._stop.is_set():
                return
            self._here.add(id_)
        self._pool.submit(self._read, id_)

    def _read(self, id_: str) -> None:
        try:
            self._uploads.read(id_)
        except SecateurError as error:
            log.warning("upload_reading_postponed", upload=id_, reason=error.detail)
        except Exception:
            log.exception("upload_reading_failed", upload=id_)
        finally:
            with self._lock:
                self._here.discard(id_)

    def _look(self) -> None:
        assert LOOK_SECONDS < READING_LEASE_SECONDS / 4
        while not self._stop.wait(LOOK_SECONDS):
            try:
                with self._lock:
                    here = list(self._here)
                self._uploads.keep_reading(here)
                for id_ in self._uploads.unread():
                    self.begin(id_)
            except SecateurError as error:
                log.warning("uploads_not_looked_for", reason=error.detail)
            except Exception:
                log.exception("uploads_not_looked_for")
