"""One look at the rows for all who follow jobs: a thousand listeners ask once."""

import asyncio
from collections import defaultdict

import structlog
from anyio import to_thread
from sqlalchemy import select

from app.adapters.database import Database, JobRow
from app.domain.errors import Unavailable

LOOK_SECONDS = 0.3
MOST_AT_ONCE = 500
"""Jobs per statement; SQLite has a limit for parameters."""

log = structlog.get_logger(__name__)
Waiter = tuple[int, "asyncio.Future[None]"]


class Watch:
    """Wakes those who wait for the next event of a job. Of one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, list[Waiter]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None

    async def changed(self, job: str, last: int, seconds: float) -> bool:
        """True when the job has an event after `last`, or is gone; False after so many seconds."""
        loop = asyncio.get_running_loop()
        waiter: Waiter = (last, loop.create_future())
        self._waiting[job].append(waiter)
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._look())
        try:
            await asyncio.wait_for(waiter[1], seconds)
        except TimeoutError:
            return False
        finally:
            self._leave(job, waiter)
        return True

    def _leave(self, job: str, waiter: Waiter) -> None:
        waiters = self._waiting.get(job, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiting.pop(job, None)

    async def _look(self) -> None:
        """While anybody waits."""
        while self._waiting:
            await asyncio.sleep(LOOK_SECONDS)
            jobs = list(self._waiting)
            try:
                numbers = await to_thread.run_sync(self._numbers, jobs)
            except Unavailable as error:
                log.warning("watch_failed", reason=error.detail)
                continue
            for job in jobs:
                self._wake(job, numbers.get(job))

    def _wake(self, job: str, number: int | None) -> None:
        for last, future in self._waiting.get(job, ()):
            if (number is None or number > last) and not future.done():
                future.set_result(None)

    def _numbers(self, jobs: list[str]) -> dict[str, int]:
        """The number of the last event of each job that is there."""
        found: dict[str, int] = {}
        with self._database.read() as session:
            for begin in range(0, len(jobs), MOST_AT_ONCE):
                part = jobs[begin : begin + MOST_AT_ONCE]
                query = select(JobRow.id, JobRow.last_event).where(JobRow.id.in_(part))
                for id_, number in session.execute(query):
                    found[id_] = number
        return found
