"""The service's own cost: latency to running, overhead of a job, polls, uploads.

`make bench` prints a Markdown table for docs/benchmarks.md. Everything is measured on a service
that this program starts; pairs are interleaved, figures are medians unless they say otherwise.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from tests.e2e.service import Service, serve

ROUNDS = 5
GIB = 1024**3
BARE = Path(__file__).parent / "bare_script.py"


def main() -> None:
    """Run everything, print the table."""
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="secateur-bench-") as name:
        folder = Path(name)
        subprocess.run([sys.executable, BARE, "prepare", folder], check=True, env=_quiet())
        with serve(folder / "service") as service:
            ids = {
                "model": service.upload_model(folder / "model.keras")["id"],
                "dataset": service.upload_dataset(
                    folder / "data.npz", json.dumps({"scale": 1 / 255})
                )["id"],
            }
            for step in (running, overhead, polls, uploads):
                rows += step(service, ids, folder)
                print(rows[-1], file=sys.stderr, flush=True)
    print(f"| What | Measured | Goal |\n|---|---|---|\n{_table(rows)}")


def _quiet() -> dict[str, str]:
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def _table(rows: list[tuple[str, str, str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spec(ids: dict[str, str], **fine_tune: Any) -> dict[str, Any]:
    return ids | {
        "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
        "fine_tune": {"early_stopping": None} | fine_tune,
        "evaluate": {"latency": None},
    }


def _idle(service: Service) -> None:
    """Until the template of jobs' processes has imported TensorFlow and waits."""
    template = service.until(service.template, "the template")
    calm = 0
    while calm < 5:
        calm = calm + 1 if template.cpu_percent(interval=0.3) < 1 else 0


def running(service: Service, ids: dict[str, str], folder: Path) -> list[tuple[str, str, str]]:
    """Seconds from sending POST /v1/jobs to the time of its first `running` event."""
    found = []
    for _ in range(ROUNDS):
        _idle(service)
        sent = time.time()
        id_ = service.submit(_spec(ids, epochs=1))
        service.wait(id_)
        at = next(e["at"] for e in service.events(id_) if e["kind"] == "running")
        loaded = next(e["at"] for e in service.events(id_) if e["kind"] == "phase")
        found.append((at - sent, loaded - sent))
    first, phase = (statistics.median(values) for values in zip(*found, strict=True))
    return [
        ("POST of a job → `running`, worker idle", f"{first:.3f} s", "< 1 s"),
        ("POST of a job → its process reports its first phase", f"{phase:.3f} s", ""),
    ]


def overhead(service: Service, ids: dict[str, str], folder: Path) -> list[tuple[str, str, str]]:
    """A job against the same prune and fine-tune in a bare Keras script, in turns."""
    epochs = 15
    jobs, scripts, accuracies = [], [], []
    for _ in range(ROUNDS):
        _idle(service)
        started = time.perf_counter()
        job = service.succeed(_spec(ids, epochs=epochs))
        jobs.append(time.perf_counter() - started)
        _idle(service)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, BARE, "run", folder, str(epochs)],
            check=True,
            env=_quiet(),
            capture_output=True,
            text=True,
        )
        scripts.append(time.perf_counter() - started)
        bare = json.loads(done.stdout.splitlines()[-1])
        accuracies.append((job["metrics"]["after"]["evaluation"]["accuracy"]["value"], bare))
    job_s, script_s = statistics.median(jobs), statistics.median(scripts)
    inside = statistics.median(bare["seconds_after_import"] for _, bare in accuracies)
    return [
        (
            f"Job time, LeNet-300-100, {epochs} epochs, POST → done",
            f"{job_s:.2f} s; bare script {script_s:.2f} s ({job_s / script_s:.2f}x)",
            f"≤ 1.05x + 2 s = {1.05 * script_s + 2:.2f} s",
        ),
        (
            "The same against the script without its imports",
            f"{job_s:.2f} s; {inside:.2f} s",
            f"≤ {1.05 * inside + 2:.2f} s",
        ),
        (
            "Accuracy after, job and script",
            f"{accuracies[0][0]:.4f} and {accuracies[0][1]['accuracy']:.4f}",
            "alike",
        ),
    ]


def polls(service: Service, ids: dict[str, str], folder: Path) -> list[tuple[str, str, str]]:
    """GET /v1/jobs/{id}: the highest offered rate whose 99th percentile stays under 20 ms."""
    id_ = service.succeed(_spec(ids, epochs=1))["id"]
    _idle(service)
    best = (0.0, 0.0)
    for rate in (50, 100, 200, 300, 400, 500, 600, 800):
        achieved, p99 = _offer(service.url + f"/v1/jobs/{id_}", rate)
        if p99 < 0.020 and achieved > 0.95 * rate:
            best = (achieved, p99)
    return [
        (
            "Status polls per second at p99 < 20 ms, one uvicorn worker, client on the same cores",
            f"{best[0]:.0f}/s (p99 {best[1] * 1000:.1f} ms)",
            "",
        )
    ]


def _offer(url: str, rate: float, seconds: float = 5.0, threads: int = 4) -> tuple[float, float]:
    """Open-loop load: requests are due at fixed times; lateness counts as latency."""
    latencies: list[float] = []
    start = time.perf_counter() + 0.2

    def client(first: int) -> None:
        with httpx.Client() as http:
            for index in range(first, int(rate * seconds), threads):
                due = start + index / rate
                time.sleep(max(due - time.perf_counter(), 0))
                assert http.get(url).status_code == 200
                latencies.append(time.perf_counter() - due)

    workers = [threading.Thread(target=client, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    spent = time.perf_counter() - start
    return len(latencies) / spent, float(np.percentile(latencies, 99))


def uploads(service: Service, ids: dict[str, str], folder: Path) -> list[tuple[str, str, str]]:
    """A 1 GiB data set over HTTP against cp, in turns, and the API's memory meanwhile."""
    big = folder / "big.npz"
    samples = GIB // (784 * 4)
    x = np.random.default_rng(0).random((samples, 784), dtype=np.float32)
    np.savez(big, x=x, y=np.arange(samples) % 10)
    del x
    posts, copies, growth = [], [], []
    api = psutil.Process(service.process.pid)
    for _ in range(3):
        before = api.memory_info().rss
        peak = _Peak(api)
        posts.append(_seconds(lambda: _post(service, big)))
        growth.append(peak.stop() - before)
        copies.append(_seconds(lambda: _copy(big, folder / "copy.npz")))
    size = big.stat().st_size / GIB
    post, copy = statistics.median(posts), statistics.median(copies)
    return [
        (
            f"Upload of a {size:.2f} GiB data set, hashed, checked for NaN and stored",
            f"{size / post:.2f} GiB/s; cp + fsync {size / copy:.2f} GiB/s ({post / copy:.1f}x)",
            "",
        ),
        (
            "Growth of the API's resident memory meanwhile",
            f"{max(growth) / 2**20:.0f} MiB",
            "< 64 MiB",
        ),
    ]


def _post(service: Service, path: Path) -> None:
    with path.open("rb") as file:
        answer = service.http.post("/v1/datasets", files={"file": (path.name, file)}, timeout=300)
    assert answer.status_code == 201, answer.text


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class _Peak:
    """Watches a process's resident memory."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak


if __name__ == "__main__":
    main()
