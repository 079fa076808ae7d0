"""How much the service bears: `python -m benchmarks.load`.

Prints a Markdown table for docs/reliability.md. Everything runs on this machine, clients included,
so it wants a quiet one.
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import structlog

from app.adapters.database import Database
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.spec import PruningSpec
from app.services.examples import MODEL_FILE, Examples
from app.services.jobs import Jobs
from app.services.uploads import Uploads
from app.settings import Settings
from benchmarks.chaos.__main__ import SPEC
from benchmarks.chaos.system import System, system
from benchmarks.load import memory, noop, rows
from benchmarks.load.client import Connection, Pace, Submits, percentile

ROOM = {"SECATEUR_QUOTA_QUEUED_JOBS": "1000000"}
Row = tuple[str, str, str]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--jobs", type=int, default=10_000, help="No-op jobs.")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="Of submits and polls.")
    parser.add_argument("--submit-rate", type=float, default=100.0, help="Submits per second.")
    parser.add_argument("--poll-rate", type=float, default=500.0, help="Polls per second.")
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--memory-minutes", type=float, default=30.0)
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 10_000, 100_000])
    parser.add_argument("--queued", type=int, default=0, help="Of ten rows, how many wait.")
    asked = parser.parse_args()
    # This process is a client: its table is what is wanted, and not a line per job.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print("| What | Measured | Goal |\n|---|---|---|", flush=True)
    with system(asked.database, ROOM | {"CHAOS_RESULT": ""}, 0, True) as running:
        for name in asked.only:
            for row in STEPS[name](running, asked):
                print(f"| {' | '.join(row)} |", flush=True)


@contextmanager
def _services(running: System) -> Iterator[tuple[Database, Jobs, PruningSpec]]:
    settings = Settings(data_dir=running.folder / "data", quota_queued_jobs=1_000_000)
    database, queue = Database(running.database_url), CeleryQueue(running.broker_url)
    jobs = Jobs(database, FolderStore(settings.store_dir), queue, settings)
    examples = Examples(Uploads(database, FolderStore(settings.store_dir), settings), jobs)
    for name in ("mdl_example", "dts_example"):
        examples.ensure(name)
    try:
        yield database, jobs, PruningSpec.model_validate(SPEC)
    finally:
        queue.close()
        database.close()


def _api(running: System) -> psutil.Process:
    return running.parts["api"].tree()[0]


def _mib(running: System) -> float:
    return float(_api(running).memory_info().rss) / 2**20


def _place(running: System) -> tuple[str, int]:
    place = urlsplit(running.api_url)
    return str(place.hostname), int(place.port or 80)


# --- requests ----------------------------------------------------------------------------------
def _requests(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    """Submits at 100/s, polls at 500/s, and both at once.

    The API's processor time per request holds on a busy machine; what clients wait does not.
    """
    with _services(running):
        pass
    before, seconds = _mib(running), asked.seconds
    submit = ("POST", "/v1/jobs", json.dumps(SPEC).encode())
    ids: list[str] = []

    def submits() -> tuple[Pace, Any]:
        pace = Submits(_place(running), asked.submit_rate, 20, ids)
        return pace, pace.run(seconds, lambda: submit)

    def polls() -> tuple[Pace, Any]:
        pace = Pace(*_place(running), asked.poll_rate, 50)
        known = ids[:]
        return pace, pace.run(
            seconds, lambda: ("GET", f"/v1/jobs/{known[pace.sent % len(known)]}", b"")
        )

    async def together(*kinds: Callable[[], tuple[Pace, Any]]) -> list[Pace]:
        made = [kind() for kind in kinds]
        await asyncio.gather(*(run for _, run in made))
        return [pace for pace, _ in made]

    # What is made by the first requests of a process is not theirs.
    asyncio.run(_warm(_place(running), submit, ids))
    for name, kinds in (
        ("submits alone", (submits,)),
        ("polls alone", (polls,)),
        ("both at once", (submits, polls)),
    ):
        used, began = _cpu_seconds(running), time.perf_counter()
        paces = asyncio.run(together(*kinds))
        used, took = _cpu_seconds(running) - used, time.perf_counter() - began
        yield (
            f"{name}, {seconds:g} s",
            "; ".join(map(_waits, paces))
            + f"; API {1000 * used / sum(len(pace.seconds) for pace in paces):.2f} ms of CPU per "
            f"request, {100 * used / took:.0f} % of a core",
            " and ".join(GOALS[type(pace)] for pace in paces),
        )
    yield ("memory of the API, before and after", f"{before:.0f} → {_mib(running):.0f} MiB", "flat")


async def _warm(place: tuple[str, int], submit: tuple[str, str, bytes], ids: list[str]) -> None:
    """Some requests of each kind, one after the other."""
    connection = Connection(*place)
    for _ in range(20):
        _, body = await connection.ask(*submit)
        ids.append(json.loads(body)["id"])
        await connection.ask("GET", f"/v1/jobs/{ids[-1]}")
    await connection.close()


GOALS: dict[type[Pace], str] = {Submits: "submit p99 < 50 ms", Pace: "poll p99 < 20 ms"}


def _cpu_seconds(running: System) -> float:
    """Of the API's process and all below it."""
    return float(sum(sum(each.cpu_times()[:2]) for each in running.parts["api"].tree()))


def _waits(pace: Pace) -> str:
    half, most = (percentile(pace.seconds, share) for share in (0.5, 0.99))
    kind = "submit" if isinstance(pace, Submits) else "poll"
    return (
        f"{kind} at {pace.rate:g}/s p50 {half:.1f} ms, p99 {most:.1f} ms "
        f"({_answers(pace.statuses)})"
    )


def _answers(statuses: dict[int, int]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))


# --- listeners ---------------------------------------------------------------------------------
def _listeners(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    """Server-Sent Events of one job; how long after a cancel everybody knows."""
    http = httpx.Client(base_url=running.api_url, timeout=60)
    job = http.post("/v1/jobs", json=SPEC).json()["id"]
    told: list[float] = []
    at: list[float] = []

    async def listen(ready: asyncio.Semaphore) -> None:
        reader, writer = await asyncio.open_connection(*_place(running))
        writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.readuntil(b"event: queued")
        ready.release()
        await reader.readuntil(b"event: cancelled")
        told.append(time.perf_counter())
        writer.close()

    async def all_of_them() -> tuple[float, float]:
        ready = asyncio.Semaphore(0)
        began = time.perf_counter()
        tasks = [asyncio.create_task(listen(ready)) for _ in range(asked.listeners)]
        for _ in tasks:
            await ready.acquire()
        connected = time.perf_counter() - began
        process = _api(running)
        used = sum(process.cpu_times()[:2])
        await asyncio.sleep(5)
        idle = (sum(process.cpu_times()[:2]) - used) / 5
        at.append(time.perf_counter())
        await asyncio.to_thread(http.post, f"/v1/jobs/{job}/cancel")
        await asyncio.gather(*tasks)
        return connected, idle

    connected, idle = asyncio.run(all_of_them())
    late = [moment - at[0] for moment in told]
    yield (
        f"{asked.listeners} listeners to events on one API process",
        f"connected in {connected:.1f} s; waiting costs {100 * idle:.0f} % of a core; all told "
        f"{max(late):.2f} s after a cancel; {_mib(running):.0f} MiB",
        "all told",
    )
    http.close()


# --- uploads -----------------------------------------------------------------------------------
def _uploads(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    """The example model, so many times at once."""
    body, kind = _form()

    async def all_of_them() -> list[int]:
        async def one() -> int:
            connection = Connection(*_place(running))
            status, _ = await connection.ask("POST", "/v1/models", body, kind)
            await connection.close()
            return status

        return await asyncio.gather(*(one() for _ in range(asked.uploads)))

    began = time.perf_counter()
    statuses = asyncio.run(all_of_them())
    counts = {status: statuses.count(status) for status in statuses}
    yield (
        f"{asked.uploads} parallel uploads of {len(body) / 1024:.0f} KiB",
        f"{time.perf_counter() - began:.1f} s; {_answers(counts)}; {_mib(running):.0f} MiB",
        "all 201",
    )


def _form() -> tuple[bytes, str]:
    """A request with the example model, and its media type."""
    edge = "edge"
    body = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="m.keras"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + MODEL_FILE.read_bytes()
    return body + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"


# --- memory ------------------------------------------------------------------------------------
def _memory(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    """Moderate work for a long time."""
    with _services(running):
        pass
    servers = (running.database_url, running.broker_url)
    work = memory.Work(
        _place(running), json.dumps(SPEC).encode(), _form(), servers, asked.memory_minutes
    )
    told = asyncio.run(work.run(lambda: _mib(running)))
    points = [told[round(share * (len(told) - 1) / 6)] for share in range(7)]
    yield (
        f"{memory.SUBMITS:g} submits and {memory.POLLS:g} polls a second for "
        f"{asked.memory_minutes:g} minutes, {work.listened} streams and {work.uploaded} uploads "
        "beside",
        f"{_answers(work.statuses)}; the API's memory in seven equal steps: "
        + ", ".join(f"{value:.0f}" for value in points)
        + " MiB",
        "flat",
    )


# --- no-op jobs --------------------------------------------------------------------------------
def _noops(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    """Queued, then claimed and finished without a child, by messages of the broker's."""
    with _services(running) as (database, jobs, spec), running.broker() as broker:
        began = time.perf_counter()
        for _ in range(asked.jobs):
            jobs.submit(spec)
        queued = time.perf_counter() - began
        waiting = int(broker.llen("jobs"))
        context = get_context("spawn")
        processes = [
            context.Process(target=noop.work, args=(running.database_url, running.broker_url))
            for _ in range(asked.processes)
        ]
        began = time.perf_counter()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        done = time.perf_counter() - began
        with database.read() as session:
            left = session.query(rows.JobRow).filter_by(state="queued").count()
    yield (
        f"{asked.jobs} no-op jobs through {asked.processes} processes",
        f"submitted and announced at {asked.jobs / queued:.0f}/s by one client; claimed and "
        f"finished at {waiting / done:.0f}/s; {left} left",
        "none left",
    )


# --- rows --------------------------------------------------------------------------------------
def _rows(running: System, asked: argparse.Namespace) -> Iterator[Row]:
    running.parts["reaper"].down_until = float("inf")
    running.parts["reaper"].stop()
    with _services(running) as (database, jobs, spec):
        costs: dict[str, list[float]] = {}
        for count in asked.rows:
            rows.fill(database, jobs, spec, count, asked.queued)
            for name, cost in rows.costs(database, jobs, spec).items():
                costs.setdefault(name, []).append(cost)
        scans = rows.plans(database, jobs, spec)
    counts = " / ".join(f"{count:,}" for count in asked.rows)
    for name, values in costs.items():
        told = " / ".join(f"{value:.1f}" for value in values)
        yield (f"{name}, at {counts} rows", f"{told} ms", "constant")
    yield ("scans of whole tables in a job's life", "; ".join(scans) or "none", "none")


STEPS: dict[str, Callable[[System, argparse.Namespace], Iterator[Row]]] = {
    "requests": _requests,
    "listeners": _listeners,
    "uploads": _uploads,
    "memory": _memory,
    "noops": _noops,
    "rows": _rows,
}

if __name__ == "__main__":
    sys.exit(main())
