"""Users for jobs' processes: a uid of its own for each, lent by a lock on a file.

Two jobs under one uid could signal each other; so could a job and whoever else has that uid.
"""

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from app.settings import Settings

LOCKS = (Path("/run/secateur-users"), Path(tempfile.gettempdir()) / "secateur-users")
"""The first that can be made. All workers of a machine must see the same one."""


class Lease:
    """A uid, and the gid of the same number, until `release` or the end of this process."""

    def __init__(self, uid: int, lock: int) -> None:
        self.uid = uid
        self._lock = lock

    def release(self) -> None:
        """Give it back; nothing runs under it any more."""
        os.close(self._lock)

    def hand_over(self, folder: Path, own: tuple[Path, ...]) -> None:
        """Let the user read `folder` and write the folders `own` in it. Raises `OSError`."""
        for path in own:
            os.chown(path, self.uid, self.uid)
        # The folder itself stays the worker's: what lies in it cannot be replaced.
        os.chown(folder, -1, self.uid)
        folder.chmod(0o750)


class Users:
    """The range that the settings name."""

    def __init__(self, first: int, count: int) -> None:
        self._range = range(first, first + count)

    @classmethod
    def of(cls, settings: Settings) -> "Users":
        """The range of the settings."""
        return cls(settings.job_uid_first, settings.job_uid_count)

    def lease(self) -> Lease | None:
        """A uid that no other job has; None where this process is not root, or all are taken."""
        if os.getuid() != 0:
            return None
        folder = _locks()
        if folder is None:
            return None
        for uid in self._range:
            lock = _locked(folder / str(uid))
            if lock is not None:
                return Lease(uid, lock)
        return None


def _locks() -> Path | None:
    for folder in LOCKS:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022:
            return folder
    return None


def _locked(path: Path) -> int | None:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
