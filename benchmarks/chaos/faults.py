"""What is done to the service: a seeded script of faults, some of which overlap."""

import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import redis

from benchmarks.chaos.history import History
from benchmarks.chaos.system import Part, System
from workers.template import NAME

AT_ONCE = 3
GAP_SECONDS = (0.5, 2.5)
TOLD_TWICE = 20
"""Messages that are copied at once, at most."""


class Faults:
    """The script. Each fault is written to the history when it has passed."""

    def __init__(self, system: System, history: History, seed: int, lease_seconds: float) -> None:
        self._system, self._history = system, history
        self._random = random.Random(seed)
        self._lease_seconds = lease_seconds
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._seen: list[bytes] = []
        self.skipped: dict[str, str] = {}
        self._script = self._possible()

    def _possible(self) -> dict[str, Callable[[], list[int] | None]]:
        script: dict[str, Callable[[], list[int] | None]] = {
            "kill worker": self._kill_worker,
            "kill pool": self._kill_pool,
            "kill child": self._kill_child,
            "kill api": lambda: self._kill("api"),
            "kill reaper": lambda: self._kill("reaper"),
            "broker restart": self._restart_broker,
            "broker flush": self._flush_broker,
            "messages twice": self._messages_twice,
            "pause worker": self._pause_worker,
            "drain worker": self._drain_worker,
            "store errors": lambda: self._system.disk.vanish(2.0),
        }
        if self._system.disk.reason:
            self.skipped = dict.fromkeys(("store full", "store slow"), self._system.disk.reason)
        else:
            script["store full"] = lambda: self._system.disk.fill(3.0)
            script["store slow"] = lambda: self._system.disk.freeze(1.3 * self._lease_seconds)
        if "postgres" in self._system.parts:
            script["database restart"] = self._restart_postgres
            script["database pause"] = self._pause_postgres
        else:
            self.skipped |= dict.fromkeys(
                ("database restart", "database pause"), "SQLite has no server"
            )
        return script

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; faults that have begun pass first."""
        deck: list[str] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not stop.wait(self._random.uniform(*GAP_SECONDS)):
                # Dealt, not thrown: a short run too has one of each.
                deck = deck or self._random.sample(sorted(self._script), len(self._script))
                pool.submit(self._do, deck.pop())

    def _do(self, name: str) -> None:
        # One fault of a server, or of the store, at a time; others overlap with it.
        first = name.split()[0]
        owner = first if first in ("broker", "database", "store") else name
        with self._lock:
            if owner in self._busy:
                return
            self._busy.add(owner)
        began = time.time()
        try:
            self._history.fault(began, name, self._script[name]() or ())
        except (OSError, redis.RedisError, psutil.Error) as error:
            self._history.fault(began, f"{name}: {error}")
        finally:
            with self._lock:
                self._busy.discard(owner)

    # --- processes -------------------------------------------------------------------------
    def _kill(self, name: str) -> list[int]:
        part = self._system.parts[name]
        hit = [process.pid for process in part.tree()]
        part.send(signal.SIGKILL)
        return hit

    def _worker(self) -> Part:
        return self._random.choice(self._system.workers())

    def _kill_worker(self) -> list[int]:
        """The main process alone: its pool must not outlive it for long."""
        return self._kill(self._worker().name)

    def _pool(self, part: Part) -> list[psutil.Process]:
        return [one for one in part.tree()[1:] if not _is_job(one)]

    def _kill_pool(self) -> list[int]:
        pool = self._pool(self._worker())
        for process in pool:
            process.kill()
        return [process.pid for process in pool]

    def _kill_child(self) -> list[int]:
        children = [one for one in self._worker().tree() if _is_job(one)]
        for process in children:
            process.kill()
        return [process.pid for process in children]

    def _pause_worker(self) -> list[int]:
        """Past its lease: it comes back as a zombie."""
        tree = self._worker().tree()
        for process in tree:
            process.suspend()
        time.sleep(1.5 * self._lease_seconds)
        for process in tree:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                pass  # Killed meanwhile.
        return [process.pid for process in tree]

    def _drain_worker(self) -> list[int]:
        part = self._worker()
        hit = [process.pid for process in part.tree()]
        part.send(signal.SIGTERM)
        deadline = time.monotonic() + 15
        while not part.ended() and time.monotonic() < deadline:
            time.sleep(0.1)
        return hit

    # --- servers ---------------------------------------------------------------------------
    def _restart_broker(self) -> None:
        part = self._system.parts["broker"]
        part.down_until = time.monotonic() + self._random.uniform(0.2, 3.0)
        part.send(signal.SIGKILL)
        time.sleep(max(part.down_until - time.monotonic(), 0))

    def _flush_broker(self) -> None:
        with self._system.broker() as client:
            client.flushall()

    def _messages_twice(self) -> None:
        """Copies of what waits, and of what was done long ago, in another order."""
        with self._system.broker() as client:
            waiting = client.lrange("jobs", 0, TOLD_TWICE)
            self._seen = [*self._seen, *waiting][-TOLD_TWICE:]
            copies = [*waiting, *self._seen]
            self._random.shuffle(copies)
            if copies:
                client.rpush("jobs", *copies)

    def _restart_postgres(self) -> None:
        part = self._system.parts["postgres"]
        part.down_until = time.monotonic() + self._random.uniform(0.5, 3.0)
        # SIGQUIT: at once, without a word to anybody; it recovers from its log.
        part.send(signal.SIGQUIT)
        time.sleep(max(part.down_until - time.monotonic(), 0) + 2.0)

    def _pause_postgres(self) -> None:
        tree = self._system.parts["postgres"].tree()
        for process in tree:
            process.suspend()
        time.sleep(1.2 * self._lease_seconds)
        for process in tree:
            process.resume()


def _is_job(process: psutil.Process) -> bool:
    try:
        return process.name() == NAME or "light_child" in " ".join(process.cmdline())
    except psutil.Error:
        return False
