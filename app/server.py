"""Uvicorn, which says when it is ready."""

import gc
import socket
import time
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.domain.addresses import networks
from app.settings import Settings

TICKS = 10
"""Uvicorn's clock ticks ten times a second."""


class Server(uvicorn.Server):
    """Prints one line when requests are answered; hangs up on who connects and asks nothing."""

    def __init__(self, app: FastAPI, ready: str, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
                timeout_keep_alive=30,
                forwarded_allow_ips=[str(each) for each in networks(settings.trusted_proxies)],
            )
        )
        self._ready = ready
        self._patience = settings.slow_client_seconds
        self._waiting: dict[tuple[Any, Any], float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            # What is there now stays: looked through again and again for garbage, it held up
            # every answer of that moment by a tenth of a second.
            gc.collect()
            gc.freeze()
            print(self._ready, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Once a second, look for connections without a request."""
        if counter % TICKS == 0:
            self._hang_up(time.monotonic())
        return await super().on_tick(counter)

    def _hang_up(self, now: float) -> None:
        """Uvicorn limits the time between requests, not that until a request's headers are there:
        a few thousand half requests would hold all connections.
        """
        connections: set[Any] = set(self.server_state.connections)
        # With the request that was answered last: who asks between two looks waits anew.
        idle = {(each, each.cycle) for each in connections if not _answering(each)}
        self._waiting = {each: self._waiting.get(each, now) for each in idle}
        for (connection, _), since in self._waiting.items():
            if now - since > self._patience:
                connection.transport.close()


def _answering(connection: Any) -> bool:
    """Whether a request is there whose answer is not complete."""
    cycle = connection.cycle
    return cycle is not None and not cycle.response_complete
