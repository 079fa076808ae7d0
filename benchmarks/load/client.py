"""A lean HTTP client, so that what is measured is the server."""

import asyncio
import json
import time
from collections.abc import Callable


class Connection:
    """Kept alive; one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Status and body."""
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(*self._place)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._place[0]}\r\nContent-Type: {kind}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head_bytes = await self._reader.readuntil(b"\r\n\r\n")
        lines = head_bytes.decode("latin-1").lower().split("\r\n")
        sizes = [line for line in lines if line.startswith("content-length:")]
        length = int(sizes[0].split(":")[1]) if sizes else 0
        return int(lines[0].split()[1]), await self._reader.readexactly(length)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()


class Pace:
    """Requests at a steady rate, whatever the answers do; latency counts from when each was due."""

    def __init__(self, host: str, port: int, rate: float, connections: int) -> None:
        self.rate = rate
        self.sent = 0
        self._free: asyncio.Queue[Connection] = asyncio.Queue()
        self._all = [Connection(host, port) for _ in range(connections)]
        for connection in self._all:
            self._free.put_nowait(connection)
        self.seconds: list[float] = []
        self.statuses: dict[int, int] = {}

    async def run(self, duration: float, request: Callable[[], tuple[str, str, bytes]]) -> None:
        began = time.perf_counter()
        tasks = []
        for number in range(int(duration * self.rate)):
            due = began + number / self.rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(self._one(due, request())))
            self.sent += 1
        await asyncio.gather(*tasks)
        for connection in self._all:
            await connection.close()

    async def _one(self, due: float, request: tuple[str, str, bytes]) -> None:
        connection = await self._free.get()
        try:
            status, body = await connection.ask(*request)
        finally:
            self._free.put_nowait(connection)
        self.seconds.append(time.perf_counter() - due)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.heard(body)

    def heard(self, body: bytes) -> None:
        """An answer's body."""


class Submits(Pace):
    """Adds the jobs that were made to `ids`, of which the latest `most` are kept."""

    def __init__(
        self, place: tuple[str, int], rate: float, connections: int, ids: list[str], most: int = 0
    ) -> None:
        super().__init__(*place, rate, connections)
        self._ids, self._most = ids, most

    def heard(self, body: bytes) -> None:
        self._ids.append(json.loads(body)["id"])
        if self._most:
            del self._ids[: -self._most]


def percentile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]
