"""Two machines with a cable between them that is cut: `python -m benchmarks.two_machines`.

Each machine is a Linux network namespace with an address of its own; a pair of virtual Ethernet
cards is the cable. One has the API, the reaper, PostgreSQL and Valkey; the other the workers. The
store is a folder that both see. The cable is cut without a word to anybody (no RST, no FIN: packets
are gone) for longer than the lease, and healed. Needs root and `ip`.

It shows that no job is lost or doubled, that the workers' machine notices by itself that the other
is gone, and that it works again after the cable is whole. Exit status 1 where not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.adapters.database import Database
from app.adapters.store import FolderStore
from benchmarks.chaos import laws
from benchmarks.chaos.__main__ import SPEC
from benchmarks.chaos.history import Call, History
from benchmarks.chaos.system import System, system
from tests.workers.results import RESULTS

LEASE_SECONDS = 4.0
NAMESPACE = "secateur-there"
CARDS = ("secateur0", "secateur1")
HERE, THERE = "10.213.7.1", "10.213.7.2"
NOBODY = "02:00:00:00:00:99"
"""An address on the cable that no card has."""
JOBS = 12


class Refused(Exception):
    """This machine does not allow network namespaces."""


def _ip(*words: str, there: bool = False) -> None:
    command = ["ip", *(("-n", NAMESPACE) if there else ()), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Refused("there is no program `ip` (package iproute2)") from error
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {done.stderr.strip()}")


class Cable:
    """The link between this namespace and the workers'."""

    def cut(self) -> None:
        """Each end's packets go to a card that is not there: nobody is told that they are lost."""
        _ip("neigh", "replace", THERE, "lladdr", NOBODY, "dev", CARDS[0], "nud", "permanent")
        words = ("neigh", "replace", HERE, "lladdr", NOBODY, "dev", CARDS[1], "nud", "permanent")
        _ip(*words, there=True)

    def heal(self) -> None:
        _ip("neigh", "del", THERE, "dev", CARDS[0])
        _ip("neigh", "del", HERE, "dev", CARDS[1], there=True)


@contextmanager
def cable() -> Iterator[Cable]:
    """Two machines and the cable between them. Raises `Refused`."""
    _ip("netns", "add", NAMESPACE)
    try:
        _ip("link", "add", CARDS[0], "type", "veth", "peer", "name", CARDS[1], "netns", NAMESPACE)
        _ip("addr", "add", f"{HERE}/24", "dev", CARDS[0])
        _ip("link", "set", CARDS[0], "up")
        _ip("addr", "add", f"{THERE}/24", "dev", CARDS[1], there=True)
        for name in (CARDS[1], "lo"):
            _ip("link", "set", name, "up", there=True)
        yield Cable()
    finally:
        _ip("netns", "del", NAMESPACE)


class Run:
    """Jobs by the API, written down for the checker."""

    def __init__(self, running: System) -> None:
        self.http = httpx.Client(base_url=running.api_url, timeout=30)
        self.history = History()
        for name in ("models/mdl_example", "datasets/dts_example"):
            self.http.get(f"/v1/{name}").raise_for_status()

    def submit(self, count: int) -> list[str]:
        jobs = []
        for _ in range(count):
            key, began = f"key-{len(self.history.calls)}", time.time()
            answer = self.http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key})
            answer.raise_for_status()
            jobs.append(answer.json()["id"])
            self.history.call(Call(began, time.time(), "submit", jobs[-1], 202, key))
        return jobs

    def states(self, jobs: list[str]) -> list[str]:
        return [str(self.http.get(f"/v1/jobs/{job}").json()["status"]) for job in jobs]

    def wait(self, jobs: list[str], states: set[str], seconds: float, how_many: int) -> float:
        """Seconds until so many jobs are in one of the states."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if sum(state in states for state in self.states(jobs)) >= how_many:
                return time.monotonic() - began
            time.sleep(0.1)
        raise AssertionError(f"after {seconds:g} s: {self.states(jobs)}, expected {states}")


def main() -> int:
    """Run, check, say."""
    parser = argparse.ArgumentParser(prog="benchmarks.two_machines", description=__doc__)
    parser.add_argument("--cut-seconds", type=float, default=30.0, help="More than the lease.")
    parser.add_argument("--cuts", type=int, default=2)
    asked = parser.parse_args()
    try:
        with cable() as link, tempfile.NamedTemporaryFile("w", suffix=".json", dir="/tmp") as file:
            json.dump(RESULTS["prune"], file)
            file.flush()
            Path(file.name).chmod(0o644)
            environment = {
                "SECATEUR_LEASE_SECONDS": str(LEASE_SECONDS),
                "SECATEUR_REAPER_INTERVAL_SECONDS": "0.5",
                "SECATEUR_REDISPATCH_SECONDS": "2",
                "SECATEUR_MAX_ATTEMPTS": "10",
                "CHAOS_RESULT": file.name,
                "CHAOS_CHILD_SECONDS": "3",
            }
            enter = ("ip", "netns", "exec", NAMESPACE)
            with system("postgres", environment, 2, True, HERE, enter) as running:
                return _scenario(running, link, asked.cut_seconds, asked.cuts)
    except Refused as error:
        print(f"skipped: this machine does not allow two network namespaces: {error}")
        return 0


def _scenario(running: System, link: Cable, cut_seconds: float, cuts: int) -> int:
    run = Run(running)
    jobs: list[str] = []
    for number in range(1, cuts + 1):
        batch = run.submit(JOBS // cuts)
        jobs += batch
        run.wait(batch, {"running"}, 60, 1)
        began = time.time()
        link.cut()
        lost = run.wait(batch, {"queued"}, cut_seconds, len(batch))
        time.sleep(max(cut_seconds - lost, 0))
        link.heal()
        run.history.fault(began, "database cut off")
        back = run.wait(batch, {"running", "succeeded"}, 60, 1)
        print(
            f"cut {number}: {cut_seconds:g} s without a word; running jobs were queued again after "
            f"{lost:.1f} s; the first ran {back:.1f} s after the cable was whole",
            flush=True,
        )
    last = run.wait(jobs, {"succeeded"}, 180, len(jobs))
    print(f"all {len(jobs)} jobs have succeeded, {last:.1f} s later")
    for name in ("api", "reaper", "worker-0", "worker-1"):
        running.parts[name].down_until = float("inf")
        running.parts[name].stop()
    database = Database(running.database_url)
    store = FolderStore(running.folder / "data" / "store")
    found = laws.check(laws.read(database, store.root, run.history, LEASE_SECONDS))
    database.close()
    for violation in found:
        print(f"VIOLATION {violation}")
    print(f"{len(found)} violations in {len(jobs)} jobs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
