"""Is this container's process well? `healthcheck.py api|reaper|worker`; exit status 0 is yes.

api: /healthz answers. reaper: database and broker answer, without which it can do nothing.
worker: the database answers, and so does the worker itself through the broker, while a job runs
too; a worker that has lost the broker is alive as a process, and yet gets no work.
"""

import socket
import sys
import urllib.request
from collections.abc import Callable

ANSWER_SECONDS = 4.0
HEALTHZ = "http://127.0.0.1:8000/healthz"


def api(url: str = HEALTHZ) -> None:
    """Standard library only: this runs every few seconds."""
    # No proxy from the environment stands between a container and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=ANSWER_SECONDS):
        pass


def reaper() -> None:
    """Database and broker answer."""
    from app.adapters.queue import CeleryQueue
    from app.settings import Settings

    _database()
    queue = CeleryQueue(Settings().broker_url)
    try:
        queue.ping()
    finally:
        queue.close()


def worker() -> None:
    """Database and own worker answer. The worker's name ends with the host's, the container's."""
    from app.adapters.queue import celery_app
    from app.settings import Settings

    _database()
    celery = celery_app(Settings().broker_url)
    try:
        asked = celery.control.inspect(
            pattern=f"*@{socket.gethostname()}", matcher="glob", limit=1, timeout=ANSWER_SECONDS
        )
        if not asked.ping():
            raise RuntimeError("the worker does not answer")
    finally:
        celery.close()


def _database() -> None:
    from app.adapters.database import Database
    from app.settings import Settings

    database = Database(Settings().effective_database_url)
    try:
        database.ping()
    finally:
        database.close()


CHECKS: dict[str, Callable[..., None]] = {"api": api, "reaper": reaper, "worker": worker}


def main(arguments: list[str]) -> int:
    """Exit status; the reason goes where `docker inspect` shows it."""
    name, *rest = arguments
    try:
        CHECKS[name](*rest)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is not well)
        sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
