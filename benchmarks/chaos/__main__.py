"""Jobs while everything dies: `python -m benchmarks.chaos --jobs 200 --seed 1 --database postgres`.

The last line is `0 violations in N jobs`; with violations each is printed with its job's history,
and the exit status is 1. `--light` has a small program stand in for the jobs' processes, so that
hundreds of jobs take minutes; without it, each imports TensorFlow and prunes the example model.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from app.adapters.database import Database
from app.adapters.store import FolderStore
from app.services.collecting import Collector
from app.settings import Settings
from benchmarks.chaos import laws
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.history import History
from benchmarks.chaos.system import System, system
from benchmarks.chaos.users import Plan, User
from tests.workers.results import RESULTS

USERS = 4
LEASE_SECONDS = 4.0
SPEC: dict[str, Any] = {
    "model": "mdl_example",
    "dataset": "dts_example",
    "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
    "fine_tune": {"epochs": 3, "early_stopping": None},
    "evaluate": {"latency": None},
}


def main(arguments: list[str] | None = None) -> int:
    """Run, check, say."""
    asked = _parser().parse_args(arguments)
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir="/tmp") as result:
        json.dump(RESULTS["prune"], result)
        result.flush()
        Path(result.name).chmod(0o644)
        environment = {
            "SECATEUR_LEASE_SECONDS": str(LEASE_SECONDS),
            "SECATEUR_REAPER_INTERVAL_SECONDS": "0.5",
            "SECATEUR_REDISPATCH_SECONDS": "2",
            "SECATEUR_MAX_ATTEMPTS": "10",
            "CHAOS_RESULT": result.name,
            "CHAOS_CHILD_SECONDS": "1",
        }
        with system(asked.database, environment, asked.workers, asked.light) as running:
            history, skipped = _storm(running, asked)
            found = _look(running, history)
            return _say(running, history, skipped, found, asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="How long faults happen.")
    parser.add_argument("--settle-minutes", type=float, default=20.0, help="For the ends, then.")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="postgres")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--light", action="store_true", help="Small programs instead of jobs.")
    parser.add_argument("--logs", action="store_true", help="Print the ends of all logs.")
    return parser


def _storm(running: System, asked: argparse.Namespace) -> tuple[History, dict[str, str]]:
    """Faults and users at once, then calm until all jobs have ended."""
    for name in ("models/mdl_example", "datasets/dts_example"):
        httpx.get(f"{running.api_url}/v1/{name}", timeout=60).raise_for_status()
    history, plan, stop = History(), Plan(asked.jobs), threading.Event()
    faults = Faults(running, history, asked.seed, LEASE_SECONDS)
    # Most of the jobs are submitted in the first half, so that faults find them at work.
    pause = asked.minutes * 60 * USERS / max(asked.jobs, 1) / 2
    users = [User(running.api_url, history, asked.seed * 100 + n, SPEC) for n in range(USERS)]
    threads = [threading.Thread(target=faults.run, args=(stop,))]
    threads += [threading.Thread(target=user.run, args=(plan, pause, stop)) for user in users]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    # All jobs are to be submitted under fire, which takes longer where submits have to wait.
    while not plan.done() or time.monotonic() - began < asked.minutes * 60:
        if time.monotonic() - began > 4 * asked.minutes * 60:
            break
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + asked.settle_minutes * 60
    for user in users:
        user.settle(deadline)
        user.download_all()
    return history, faults.skipped


def _look(running: System, history: History) -> list[laws.Violation]:
    """Stop everything but the database, collect garbage, read what is left."""
    for name, part in running.parts.items():
        if name not in ("postgres", "broker"):
            part.down_until = float("inf")
            part.stop()
    settings = Settings(data_dir=running.folder / "data", blob_grace_seconds=0.0)
    database, store = Database(running.database_url), FolderStore(settings.store_dir)
    try:
        store.sweep_temporary(0.0)
        Collector(database, store, settings).round()
        return laws.check(laws.read(database, store.root, history, LEASE_SECONDS))
    finally:
        database.close()


def _say(
    running: System,
    history: History,
    skipped: dict[str, str],
    found: list[laws.Violation],
    asked: argparse.Namespace,
) -> int:
    calls = Counter(f"{call.what} {call.status}" for call in history.calls)
    print("calls:", ", ".join(f"{name} × {count}" for name, count in sorted(calls.items())))
    kinds = Counter(fault.what for fault in history.faults)
    print("faults:", ", ".join(f"{name} × {count}" for name, count in sorted(kinds.items())))
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason}")
    for violation in found:
        print(f"VIOLATION {violation}")
        for call in history.of(violation.job):
            print(f"    {json.dumps(call)}")
    if asked.logs:
        for name in running.parts:
            print(f"--- {name}\n{running.log(name)}", file=sys.stderr)
    jobs = {call.job for call in history.calls if call.what == "submit" and call.job}
    print(f"{len(found)} violations in {len(jobs)} jobs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
