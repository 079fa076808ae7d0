"""What an attempt takes from the store and puts there, while the store may be slow or away."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from app.adapters.database import Database
from app.domain.errors import InternalError, Unavailable
from app.domain.job import MEDIA_TYPES, ArtifactFile, Attempt, Checkpoint
from app.domain.metrics import Metrics
from app.domain.ports import Blob, Store
from app.services import lifecycle
from app.settings import Settings
from workers.parent import Child
from workers.protocol import Done, Saved
from workers.reading_back import read_back

LOG_SECONDS = 10.0
"""How long a store that is away is waited for where only the log is left to be stored."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Untrusted(Exception):
    """The child did what it must not."""


class Storage:
    """Files of one attempt.

    Args:
        listen: called while the store is waited for; what it raises ends the wait.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        attempt: Attempt,
        child: Child,
        listen: Callable[[], None],
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._attempt = attempt
        self._child = child
        self._listen = listen
        self._prefix = f"jobs/{attempt.job}/a{attempt.fence}"
        self._stored: set[str] = set()
        self.patience_seconds = settings.store_patience_seconds
        """How long a store that is away is waited for, each time it is needed."""

    def hurry(self) -> None:
        """Only a log is left to be stored: how the job ended is worth more."""
        self.patience_seconds = min(LOG_SECONDS, self.patience_seconds)

    def hand_over(self, key: str, sha256: str, path: Path) -> None:
        """Fetch an input into the child's folder; its hash is checked."""

        def fetch() -> None:
            path.unlink(missing_ok=True)
            self._store.fetch(key, sha256, path)

        self._asked(fetch)
        self._child.receive(path)

    def checkpoint(self, saved: Saved) -> Checkpoint | None:
        """Store a checkpoint; None while the store is away: the next epoch brings another.

        Raises `InternalError` where the child did not write what it says.
        """
        source = self._child.scratch / saved.file
        try:
            blob = self._put(f"{self._prefix}/checkpoint-{saved.epoch}.zip", source)
        except Unavailable as error:
            log.warning("checkpoint_skipped", reason=error.detail)
            source.unlink(missing_ok=True)
            return None
        except OSError as error:
            raise InternalError(
                f"The job's checkpoint {saved.file} cannot be read: {error.strerror}"
            ) from error
        source.unlink(missing_ok=True)
        return Checkpoint(key=blob.key, sha256=blob.sha256, bytes=blob.bytes, epoch=saved.epoch)

    def publish(self, done: Done | None) -> list[ArtifactFile]:
        """Store the artifacts; the row that makes them visible is written after them.

        Raises `Untrusted`; without a result, a log that cannot be stored is left out.
        """
        files = []
        if self._attempt.kind == "prune":
            try:
                files.append(self._artifact("log.txt", self._child.log))
            except (Untrusted, Unavailable):
                if done is not None:
                    raise  # Then the other end of the job must go without a log.
        for name in done.files if done else ():
            files.append(self._artifact(name, self._child.out / name))
        if done is not None and self._attempt.kind == "prune":
            told, memory = Metrics.model_validate(done.result), self._settings.intake_memory_bytes
            model = self._attempt.model
            self._asked(lambda: read_back(self._store, files, told, model, memory))
        return files

    def forget_unpublished(self) -> None:
        """Delete what this attempt stored and no row refers to.

        The last checkpoint stays, with which the next attempt goes on; and everything stays when a
        commit came through whose answer was lost.
        """
        try:
            kept = lifecycle.kept_keys(self._database, self._attempt)
        except Unavailable:
            return
        for key in self._stored - kept:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Delete what no row refers to any more; what stays now is collected later."""
        try:
            self._store.delete(key)
        except Unavailable as error:
            log.warning("file_left", key=key, reason=error.detail)

    def _asked(self, ask: Callable[[], T]) -> T:
        """Repeat what a store that is away prevents; who waits for it still listens."""
        deadline, pause = time.monotonic() + self.patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except Unavailable as error:
                if time.monotonic() + pause > deadline:
                    raise
                log.warning("store_away", reason=error.detail)
            until = time.monotonic() + pause
            while time.monotonic() < until:
                self._listen()
                time.sleep(min(FIRST_PAUSE_SECONDS, self._settings.heartbeat_seconds))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _put(self, key: str, source: Path) -> Blob:
        """Copy a file of the child's in. Raises `OSError` where it cannot be read."""
        self._stored.add(key)
        return self._store.put_file(key, source, self._settings.job_file_bytes)

    def _artifact(self, name: str, source: Path) -> ArtifactFile:
        if name not in MEDIA_TYPES:
            raise Untrusted(f"the job's process offered a file called {name!r}")
        limit = self._settings.job_file_bytes
        try:
            found = os.lstat(source)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise Untrusted(f"the job's file {name} is no plain file of at most {limit} bytes")
            blob = self._asked(lambda: self._put(f"{self._prefix}/{name}", source))
        except OSError as error:
            raise Untrusted(f"the job's file {name} cannot be read: {error.strerror}") from error
        return ArtifactFile(
            name=name,
            key=blob.key,
            bytes=blob.bytes,
            sha256=blob.sha256,
            media_type=MEDIA_TYPES[name],
        )
