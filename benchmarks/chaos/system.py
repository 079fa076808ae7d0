"""The service as many processes, each of which may die and is started again."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import redis

from app.adapters.database import migrate
from app.embedded import valkey_binary
from benchmarks.chaos.disk import Disk, disk
from tests.servers import (
    DATABASE,
    HOST,
    _init_database,
    _postgres_programs,
    _unprivileged,
    free_port,
)

SECATEUR = str(Path(sys.executable).with_name("secateur"))
START_SECONDS = 60.0
LIGHT_WORKER = (
    *(sys.executable, "-m", "benchmarks.chaos.light_worker", "--app=workers.celery_app"),
    *("--quiet", "worker", "--queues=jobs", "--concurrency=1"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO"),
)


class Part:
    """A process that is started again whenever it has ended."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: dict[str, str],
        log: Path,
        owner: tuple[int, int] | None = None,
    ) -> None:
        self.name = name
        self._command, self._environment, self._log = command, environment, log
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self.down_until = 0.0
        """By the monotonic clock: not to be started again before."""

    def start(self) -> None:
        uid, gid = self._owner or (None, None)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=uid,
                group=gid,
                extra_groups=[] if uid else None,
                start_new_session=True,
            )

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and not self.ended():
            self._process.send_signal(number)

    def tree(self) -> list[psutil.Process]:
        """The process and all below it; empty when it has ended."""
        if self._process is None or self.ended():
            return []
        try:
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.Error:
            return []

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None or self.ended():
            return
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class System:
    """All parts, their addresses, and a thread that keeps them running."""

    def __init__(self, folder: Path, parts: dict[str, Part], urls: dict[str, str], on: Disk):
        self.folder, self.parts, self.disk = folder, parts, on
        self.api_url, self.broker_url, self.database_url = (
            urls["api"],
            urls["broker"],
            urls["database"],
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def workers(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name.startswith("worker")]

    def broker(self) -> "redis.Redis":
        return redis.Redis.from_url(self.broker_url, socket_timeout=5)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        # Whoever waits for the broker or the database ends before them.
        for part in sorted(self.parts.values(), key=lambda each: each.name in SERVERS):
            part.stop(signal.SIGINT if part.name == "postgres" else signal.SIGTERM)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for part in self.parts.values():
                if part.ended() and time.monotonic() >= part.down_until:
                    part.start()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.api_url}/healthz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"The API did not start:\n{self.log('api')}")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]


SERVERS = ("broker", "postgres")


@contextmanager
def system(
    database: str,
    environment: dict[str, str],
    workers: int,
    light: bool,
    host: str = HOST,
    enter: tuple[str, ...] = (),
) -> Iterator[System]:
    """Everything, started; a folder for all of it, gone afterwards.

    Args:
        database: sqlite or postgres.
        environment: settings.
        workers: how many.
        light: whether small programs stand in for the jobs' processes.
        host: address of broker and database.
        enter: what workers' commands begin with.
    """
    # Asked to stop, it must end what it has started and take its disk away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="secateur-chaos-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        (folder / "data").mkdir()
        on = stack.enter_context(disk(folder / "data" / "store"))
        urls, parts = {}, {}
        parts["broker"], urls["broker"] = _broker(folder, host)
        if database == "postgres":
            parts["postgres"], urls["database"] = _postgres(folder, host)
        else:
            urls["database"] = f"sqlite:///{folder}/data/secateur.sqlite3"
        settings = environment | {
            "SECATEUR_DATA_DIR": str(folder / "data"),
            "SECATEUR_BROKER_URL": urls["broker"],
            "SECATEUR_DATABASE_URL": urls["database"],
        }
        port = free_port()
        urls["api"] = f"http://{HOST}:{port}"
        commands = {"api": ("api", "--port", str(port)), "reaper": ("reaper",)}
        for name, arguments in commands.items():
            parts[name] = _ours(folder, name, (SECATEUR, *arguments), settings)
        for number in range(workers):
            command = (SECATEUR, "worker", "--queue", "jobs")
            name = f"worker-{number}"
            if light:
                command = (*LIGHT_WORKER, f"--hostname={name}@%h")
            parts[name] = _ours(folder, name, (*enter, *command), settings)
        running = System(folder, parts, urls, on)
        for name in SERVERS:
            if name in parts:
                parts[name].start()
        _wait_for_servers(running)
        migrate(urls["database"])
        stack.callback(running.end)
        running.begin()
        running.wait_ready()
        yield running


def _ours(folder: Path, name: str, command: Sequence[str], settings: dict[str, str]) -> Part:
    return Part(name, lambda: command, settings, folder / f"{name}.log")


def _broker(folder: Path, host: str) -> tuple[Part, str]:
    port = free_port()
    options = {"bind": host, "port": port, "save": "", "appendonly": "no", "dir": folder}
    # Without a password it would answer to loopback alone; only this machine has the address.
    options["protected-mode"] = "no"
    command = [valkey_binary()]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    part = Part("broker", lambda: command, {}, folder / "broker.log")
    return part, f"redis://{host}:{port}/0"


def _postgres(folder: Path, host: str) -> tuple[Part, str]:
    password, owner = secrets.token_hex(16), _unprivileged()
    home = folder / "postgres"
    home.mkdir()
    programs = _postgres_programs(home, owner)
    data, secret = home / "data", home / "password"
    secret.write_text(password)
    if owner is not None:
        for path in (home, secret):
            os.chown(path, *owner)
    _init_database(programs, data, secret, owner, home / "initdb.log")
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet scram-sha-256\n")
    port = free_port()
    command = [str(programs / "postgres"), "-D", str(data)]
    options = {"listen_addresses": host, "port": port, "unix_socket_directories": ""}
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    part = Part("postgres", lambda: command, {}, folder / "postgres.log", owner)
    return part, f"postgresql+psycopg://postgres:{password}@{host}:{port}/{DATABASE}"


def _wait_for_servers(running: System) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with running.broker() as client:
                client.ping()
            if "postgres" in running.parts:
                _create_database(running.database_url)
            return
        except Exception:  # noqa: BLE001  (two clients' errors; the deadline ends it)
            time.sleep(0.1)
    raise RuntimeError("The broker or the database did not start.")


def _create_database(url: str) -> None:
    import psycopg

    plain = url.replace("+psycopg", "").rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(plain, autocommit=True, connect_timeout=5) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
