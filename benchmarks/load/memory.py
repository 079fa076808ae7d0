"""Whether the API's memory stays where it is while work goes on for a long time."""

import asyncio
import itertools
from collections.abc import Callable

from benchmarks.load import noop
from benchmarks.load.client import Connection, Pace, Submits

SUBMITS, POLLS = 5.0, 50.0
"""Each second: work for an API process, but none that it falls behind of."""
LISTENERS = 20
UPLOAD_SECONDS = 10.0
LOOK_SECONDS = 30.0


class Work:
    """Submits, polls, listeners that come and go, and uploads, until the time is over."""

    def __init__(
        self,
        place: tuple[str, int],
        spec: bytes,
        upload: tuple[bytes, str],
        servers: tuple[str, str],
        minutes: float,
    ) -> None:
        self._place, self._spec, self._upload = place, spec, upload
        self._servers = servers
        self._seconds = 60 * minutes
        self._ids: list[str] = []
        self._over = asyncio.Event()
        self.statuses: dict[int, int] = {}
        self.listened = self.uploaded = 0

    async def run(self, look: Callable[[], float]) -> list[float]:
        """What `look` told every half a minute."""
        helpers = [asyncio.create_task(self._listen()) for _ in range(LISTENERS)]
        helpers += [asyncio.create_task(each) for each in (self._uploads(), self._drain())]
        looked = asyncio.create_task(self._looks(look))
        await self._paces()
        self._over.set()
        await asyncio.gather(*helpers, looked)
        return looked.result()

    async def _paces(self) -> None:
        submits = Submits(self._place, SUBMITS, 5, self._ids, most=1000)
        polls, numbers = Pace(*self._place, POLLS, 10), itertools.count()
        connection = Connection(*self._place)
        submits.heard((await connection.ask("POST", "/v1/jobs", self._spec))[1])
        await connection.close()

        def poll() -> tuple[str, str, bytes]:
            return ("GET", f"/v1/jobs/{self._ids[next(numbers) % len(self._ids)]}", b"")

        await asyncio.gather(
            submits.run(self._seconds, lambda: ("POST", "/v1/jobs", self._spec)),
            polls.run(self._seconds, poll),
        )
        for pace in (submits, polls):
            for status, count in pace.statuses.items():
                self.statuses[status] = self.statuses.get(status, 0) + count

    async def _listen(self) -> None:
        """Some job's events, for a second or until it ends, and again."""
        while not self._over.is_set():
            if self._ids:
                reader, writer = await asyncio.open_connection(*self._place)
                head = f"GET /v1/jobs/{self._ids[-1]}/events HTTP/1.1\r\nHost: {self._place[0]}"
                writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
                try:
                    await asyncio.wait_for(reader.read(-1), 1.0)
                except TimeoutError:
                    pass
                writer.close()
                self.listened += 1
            await asyncio.sleep(0.5)

    async def _uploads(self) -> None:
        while not self._over.is_set():
            connection = Connection(*self._place)
            status, _ = await connection.ask("POST", "/v1/models", *self._upload)
            await connection.close()
            assert status == 201
            self.uploaded += 1
            await self._sleep(UPLOAD_SECONDS)

    async def _drain(self) -> None:
        """Waiting jobs are done as they come."""
        while not self._over.is_set():
            await asyncio.to_thread(noop.work, *self._servers)
            await self._sleep(1.0)

    async def _looks(self, look: Callable[[], float]) -> list[float]:
        told = []
        while not self._over.is_set():
            await self._sleep(LOOK_SECONDS)
            told.append(look())
        return told

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            pass
