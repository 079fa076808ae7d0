"""`secateur api` that asks for keys, and the commands beside it."""

import io
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import httpx

from app.cli import main
from tests.servers import Process

SECATEUR = str(Path(sys.executable).with_name("secateur"))


class Said(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Keyed:
    """`secateur api` on loopback, asked to want keys."""

    url: str
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> Said:
        """The command in this process, which spares the seconds of starting another."""
        out, err, status = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.dict(os.environ, self.environment),
            mock.patch("sys.argv", ["secateur", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        return Said(status, out.getvalue(), err.getvalue())

    def key(self, *arguments: str) -> str:
        done = self.run("keys", "create", *arguments)
        assert done.returncode == 0, done.stderr
        assert "shown only now" in done.stderr
        return done.stdout.strip()

    def get(self, path: str, key: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.get(self.url + path, headers=headers, trust_env=False)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def keyed_api(folder: Path, broker_url: str) -> Iterator[Keyed]:
    """Start it, wait for its address, stop it."""
    environment = os.environ | {
        "SECATEUR_DATA_DIR": str(folder / "data"),
        "SECATEUR_BROKER_URL": broker_url,
        "SECATEUR_REQUIRE_KEYS": "always",
        "SECATEUR_SLOW_CLIENT_SECONDS": "1.5",
        "SECATEUR_LOG_LEVEL": "debug",
    }
    process = Process([SECATEUR, "api", "--port", "0"], folder / "log", environment=environment)
    try:
        deadline = time.monotonic() + 60
        while not (said := re.search(r"ready at (\S+)", (folder / "log").read_text())):
            assert not process.ended(), process.last_words()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Keyed(said[1], folder, environment)
    finally:
        process.stop()
