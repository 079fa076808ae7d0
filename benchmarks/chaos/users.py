"""Clients who submit, look, cancel, retry, delete and download, and write down what they saw."""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.chaos.history import Call, History

CUT, CANCEL, DELETE, RETRY = 0.25, 0.06, 0.04, 0.6
AGAIN_SECONDS = 0.3
PLAYS = 5
"""Looks at jobs, and what follows from them, for each submit."""


class Plan:
    """How many jobs are still to be submitted, by all users together."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """The number of the next job."""
        with self._lock:
            if self._left == 0:
                return None
            self._left -= 1
            return self._left

    def done(self) -> bool:
        return self._left == 0


class User:
    """One client. A request without an answer is no error: it is repeated, or forgotten."""

    def __init__(self, url: str, history: History, seed: int, spec: dict[str, Any]) -> None:
        self._url, self._history, self._spec = url, history, spec
        self._random = random.Random(seed)
        self._seed = seed
        self._http = httpx.Client(base_url=url, timeout=30)
        self.jobs: list[str] = []

    def run(self, plan: Plan, pause: float, stop: threading.Event) -> None:
        """Until there is nothing more to submit, then until `stop`."""
        while not stop.is_set():
            number = plan.take()
            if number is not None:
                self._submit(f"{self._seed}-{number}")
            elif not self.jobs:
                return
            for _ in range(PLAYS):
                self._play()
                time.sleep(self._random.uniform(0, 2 * pause / PLAYS))

    def settle(self, deadline: float) -> Sequence[str]:
        """Wait for the ends; returns the jobs that have not ended."""
        left = list(self.jobs)
        while left and time.monotonic() < deadline:
            left = [job for job in left if not self._ended(job)]
            time.sleep(AGAIN_SECONDS)
        return left

    def download_all(self) -> None:
        """All files of all jobs that have succeeded."""
        for job in self.jobs:
            if self._state(job) == "succeeded":
                self._download(job)

    # --- requests --------------------------------------------------------------------------
    def _call(
        self, what: str, method: str, path: str, job: str, **more: Any
    ) -> httpx.Response | None:
        began = time.time()
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError:
            self._history.call(Call(began, time.time(), what, job, 0))
            return None
        data = {} if answer.is_success else {"said": answer.text[:500]}
        self._history.call(Call(began, time.time(), what, job, answer.status_code, data=data))
        return answer

    def _submit(self, key: str) -> None:
        """With the same key until it is answered; the first time perhaps by a cut connection."""
        if self._random.random() < CUT:
            self._cut(key)
        while True:
            began = time.time()
            try:
                answer = self._http.post(
                    "/v1/jobs", json=self._spec, headers={"Idempotency-Key": key}
                )
            except httpx.HTTPError:
                time.sleep(AGAIN_SECONDS)
                continue
            job = answer.json().get("id", "") if answer.status_code == 202 else ""
            data = {} if job else {"said": answer.text[:500]}
            call = Call(began, time.time(), "submit", job, answer.status_code, key, data)
            self._history.call(call)
            if job:
                self.jobs.append(job)
                return
            if answer.status_code < 500 and answer.status_code != 429:
                raise RuntimeError(f"A submit was refused: {answer.text}")
            time.sleep(AGAIN_SECONDS)

    def _cut(self, key: str) -> None:
        """Send the request whole, and hang up before the answer."""
        place = urlsplit(self._url)
        request = self._http.build_request(
            "POST", "/v1/jobs", json=self._spec, headers={"Idempotency-Key": key}
        )
        lines = [f"POST /v1/jobs HTTP/1.1\r\nHost: {place.netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name != "host"]
        try:
            with socket.create_connection((str(place.hostname), place.port or 80), 5) as raw:
                raw.sendall("\r\n".join([*lines, "", ""]).encode() + request.content)
        except OSError:
            pass

    def _play(self) -> None:
        """Something with one of the jobs."""
        if not self.jobs:
            return
        job = self._random.choice(self.jobs)
        state, chance = self._state(job), self._random.random()
        if state in ("queued", "running") and chance < CANCEL:
            self._call("cancel", "POST", f"/v1/jobs/{job}/cancel", job)
        elif state in ("failed", "cancelled") and chance < RETRY:
            self._call("retry", "POST", f"/v1/jobs/{job}/retry", job)
        elif state == "succeeded" and chance < DELETE:
            self._call("delete", "DELETE", f"/v1/jobs/{job}", job)
        elif state == "succeeded":
            self._download(job)

    def _state(self, job: str) -> str:
        answer = self._call("get", "GET", f"/v1/jobs/{job}", job)
        if answer is None or answer.status_code >= 500:
            return "unknown"
        return "gone" if answer.status_code == 404 else str(answer.json()["status"])

    def _ended(self, job: str) -> bool:
        return self._state(job) in ("succeeded", "failed", "cancelled", "gone")

    def _download(self, job: str) -> None:
        listed = self._call("list", "GET", f"/v1/jobs/{job}/artifacts", job)
        if listed is None or listed.status_code != 200:
            return
        for file in listed.json():
            path = f"/v1/jobs/{job}/artifacts/{file['name']}"
            began = time.time()
            try:
                answer = self._http.get(path)
            except httpx.HTTPError:
                continue
            found = hashlib.sha256(answer.content).hexdigest()
            data = {"name": file["name"], "expected": file["sha256"], "sha256": found}
            if answer.status_code != 200:
                data = {"said": answer.text[:300]}
            self._history.call(
                Call(began, time.time(), "download", job, answer.status_code, data=data)
            )
