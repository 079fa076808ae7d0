"""Uvicorn, which says when it is ready."""

import socket

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Prints one line when requests are answered."""

    def __init__(self, app: FastAPI, ready: str) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
                timeout_keep_alive=30,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            print(self._ready, flush=True)
