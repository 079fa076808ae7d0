"""A Valkey with a replica, and a Sentinel that watches both: `sentinel()`."""

import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from app.embedded import valkey_binary
from tests.servers import HOST, Process, free_port

NAME = "secateur"
PATIENCE_SECONDS = 20.0


@dataclass
class Watched:
    """The servers, and what a client needs."""

    url: str
    password: str
    sentinel_password: str
    sentinel_port: int
    servers: dict[int, Process]
    """By port."""

    def master_port(self) -> int:
        with self._client(self.sentinel_port, self.sentinel_password) as client:
            return int(client.sentinel_get_master_addr_by_name(NAME)[1])

    def lose_master(self) -> None:
        """End it, and wait until the Sentinel has promoted the other."""
        before = self.master_port()
        self.servers[before].stop()
        _wait(lambda: self.master_port() != before and self._is_master(self.master_port()))

    def _is_master(self, port: int) -> bool:
        with self._client(port, self.password) as client:
            return bool(client.role()[0] == b"master")

    def _client(self, port: int, password: str) -> "redis.Redis":
        return redis.Redis(host=HOST, port=port, password=password, socket_timeout=2)


def _wait(until: object) -> None:
    assert callable(until)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if until():
                return
        except (redis.RedisError, OSError):
            pass
        time.sleep(0.05)
    pytest.fail("the servers did not come to an agreement in time", pytrace=False)


@contextmanager
def sentinel(folder: Path) -> Iterator[Watched]:
    """Started, and in agreement. Each of them asks for a password; the Sentinel for its own."""
    password, own = secrets.token_hex(16), secrets.token_hex(16)
    master, replica, watcher = free_port(), free_port(), free_port()
    server = (
        f'bind {HOST}\nrequirepass {password}\nmasterauth {password}\nsave ""\n'
        "appendonly no\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
    )
    configs = {
        master: f"{server}port {master}\n",
        replica: f"{server}port {replica}\nreplicaof {HOST} {master}\n",
        watcher: f"bind {HOST}\nport {watcher}\nrequirepass {own}\n"
        f"sentinel monitor {NAME} {HOST} {master} 1\n"
        f"sentinel auth-pass {NAME} {password}\n"
        f"sentinel down-after-milliseconds {NAME} 500\n"
        f"sentinel failover-timeout {NAME} 3000\n",
    }
    with ExitStack() as running:
        started = {}

        def start(port: int, *more: str) -> None:
            home = folder / str(port)
            home.mkdir()
            config = home / "valkey.conf"
            config.write_text(f"{configs[port]}dir {home}\n")
            started[port] = Process(
                [valkey_binary(), str(config), *more], home / "log", signal.SIGTERM
            )
            running.callback(started[port].stop)

        start(master)
        start(replica)
        with redis.Redis(host=HOST, port=replica, password=password) as client:
            _wait(lambda: client.info("replication")["master_link_status"] == "up")
        # Last: a Sentinel asks a master for its replicas at once, and then every ten seconds.
        start(watcher, "--sentinel")
        servers = {port: started[port] for port in (master, replica)}
        url = (
            f"sentinel://:{password}@{HOST}:{watcher}/0;sentinel://{HOST}:{free_port()}/0"
            f"?master_name={NAME}&sentinel_password={own}"
        )
        watched = Watched(url, password, own, watcher, servers)
        with redis.Redis(host=HOST, port=watcher, password=own, socket_timeout=2) as client:
            _wait(lambda: any(not one["is_disconnected"] for one in client.sentinel_slaves(NAME)))
        yield watched
