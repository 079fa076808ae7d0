"""Runs `secateur serve` as a user would, and talks HTTP to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from workers.template import NAME

SECATEUR = Path(sys.executable).with_name("secateur")
PATIENCE_SECONDS = 180.0
"""For what takes seconds on an idle machine; tests fail by it, and never measure with it."""


class Service:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, data_dir: Path) -> None:
        self.process = process
        self.url = url
        self.data_dir = data_dir
        self.http = httpx.Client(base_url=url, timeout=60)

    # --- requests ----------------------------------------------------------------------------
    def upload_model(self, path: Path) -> dict[str, Any]:
        return self.upload("/v1/models", path)

    def upload_dataset(self, path: Path, options: str = "{}") -> dict[str, Any]:
        return self.upload("/v1/datasets", path, options=options)

    def upload(self, route: str, path: Path, **fields: str) -> dict[str, Any]:
        with path.open("rb") as file:
            answer = self.http.post(route, files={"file": (path.name, file)}, data=fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def submit(self, spec: dict[str, Any]) -> str:
        answer = self.http.post("/v1/jobs", json=spec)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        return answer.json()["id"]

    def job(self, id_: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{id_}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, id_: str) -> dict[str, Any]:
        """The job once it has ended."""
        return self.until(lambda: (job := self.job(id_))["done"] and job, f"job {id_} to end")

    def succeed(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Submit, wait, and show why it failed if it did."""
        job = self.wait(self.submit(spec))
        assert job["status"] == "succeeded", job["error"]
        return job

    def events(self, id_: str) -> list[dict[str, Any]]:
        answer = self.http.get(f"/v1/jobs/{id_}/events", headers={"Accept": "application/json"})
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    def wait_for_event(self, id_: str, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """The events of a kind, once there are so many."""

        def found() -> list[dict[str, Any]] | None:
            events = [event for event in self.events(id_) if event["kind"] == kind]
            if len(events) < count:
                job = self.job(id_)
                assert not job["done"], f"ended before {kind}: {job['status']} {job['error']}"
                return None
            return events

        return self.until(found, f"{count} events {kind} of {id_}")

    def download(self, id_: str, name: str, folder: Path) -> Path:
        answer = self.http.get(f"/v1/jobs/{id_}/artifacts/{name}")
        assert answer.status_code == 200, answer.text
        path = folder / name
        path.write_bytes(answer.content)
        return path

    def until(self, condition: Any, what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.1)
        raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} s for {what}\n{self.log()}")

    # --- processes ---------------------------------------------------------------------------
    def log(self) -> str:
        return (self.data_dir / "service.log").read_text(errors="replace")[-6000:]

    def processes(self) -> list[psutil.Process]:
        """Everything that the service runs, itself first."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def worker_processes(self, queue: str = "jobs") -> list[psutil.Process]:
        """The Celery worker of a queue, its pool and their children."""
        for process in psutil.Process(self.process.pid).children():
            if f"--queues={queue}" in process.cmdline():
                return [process, *process.children(recursive=True)]
        return []

    def job_processes(self, queue: str = "jobs") -> list[psutil.Process]:
        """What runs a job of the worker's."""
        found = []
        for process in self.worker_processes(queue):
            try:
                if process.name() == NAME:
                    found.append(process)
            except psutil.Error:
                continue  # It has just ended.
        return found

    def template(self, queue: str = "jobs") -> psutil.Process | None:
        """What jobs' processes of the worker's are copied from, once it has started."""
        for process in self.worker_processes(queue):
            try:
                if "workers.template" in process.cmdline() and process.name() != NAME:
                    return process
            except psutil.Error:
                continue
        return None

    def broker_url(self) -> str:
        return f"unix://{self.data_dir / 'run' / 'valkey.sock'}"


@contextmanager
def serve(data_dir: Path, **settings: str) -> Iterator[Service]:
    """Start, wait for the address, stop with SIGTERM."""
    data_dir.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {f"SECATEUR_{name}": value for name, value in settings.items()}
    with (data_dir / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [SECATEUR, "serve", "--port", "0", "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
    service = None
    try:
        line = process.stdout.readline()
        assert "http://" in line, (data_dir / "service.log").read_text()
        service = Service(process, line.split(" at ")[1].split()[0], data_dir)
        yield service
    finally:
        if service is not None:
            service.http.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stdout.close()
