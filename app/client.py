"""A small client of the HTTP API, for the command line and the demo."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from app.domain.errors import SecateurError

ATTEMPTS = 5
KEY_VARIABLE = "SECATEUR_API_KEY"
LONGEST_PAUSE_SECONDS = 60.0
CHUNK = 1024 * 1024


class RequestFailed(SecateurError):
    """The service answered with a problem, or not at all."""

    slug = "request-failed"
    title = "The request failed"
    fault = "client"


class Client:
    """Talks to one service, with an API key where one is given or in `SECATEUR_API_KEY`.

    Reading is retried when the connection breaks; everything is when the service is busy.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise RequestFailed(
                f"The address {url!r} must begin with http:// or https://, as in "
                "http://127.0.0.1:8000."
            )
        key = key or os.environ.get(KEY_VARIABLE, "")
        if key and not key.isascii():
            raise RequestFailed(f"The API key in {KEY_VARIABLE} or --key holds no ASCII text.")
        headers = {"Authorization": f"Bearer {key.strip()}"} if key else {}
        self._http = httpx.Client(
            base_url=url, timeout=httpx.Timeout(30.0, read=120.0), headers=headers
        )
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def upload_model(self, path: Path) -> dict[str, Any]:
        """The model's resource."""
        return self._upload("/v1/models", path, {})

    def upload_dataset(self, path: Path, options: dict[str, Any]) -> dict[str, Any]:
        """The data set's resource."""
        return self._upload("/v1/datasets", path, {"options": json.dumps(options)})

    def _upload(self, route: str, path: Path, fields: dict[str, str]) -> dict[str, Any]:
        with path.open("rb") as file:
            answer = self._send("POST", route, files={"file": (path.name, file)}, data=fields)
        return dict(answer.json())

    def submit(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The job's resource."""
        return dict(self._send("POST", "/v1/jobs", json=spec).json())

    def job(self, id_: str) -> dict[str, Any]:
        """The job's resource."""
        return dict(self._send("GET", f"/v1/jobs/{id_}").json())

    def cancel(self, id_: str) -> None:
        """Ask a job to stop."""
        self._send("POST", f"/v1/jobs/{id_}/cancel")

    def watch(self, id_: str, every_seconds: float = 0.25) -> Iterator[dict[str, Any]]:
        """The job's resource again and again; the last one has `done`."""
        while True:
            job = self.job(id_)
            yield job
            if job["done"]:
                return
            time.sleep(every_seconds)

    def artifacts(self, id_: str) -> list[dict[str, Any]]:
        """The job's files."""
        return list(self._send("GET", f"/v1/jobs/{id_}/artifacts").json())

    def download(self, id_: str, name: str, to: Path) -> Path:
        """Fetch a file whole; its hash is checked before it gets its name.

        Raises:
            RequestFailed: the bytes are not those that the service announced.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        part = to.with_name(to.name + ".part")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", f"/v1/jobs/{id_}/artifacts/{name}") as answer:
                if answer.is_error:
                    answer.read()
                    raise _failed(answer)
                with part.open("wb") as file:
                    for chunk in answer.iter_bytes(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
            if answer.headers.get("etag", "").strip('"') != digest.hexdigest():
                raise RequestFailed(f"The download of {name} was damaged on the way; try again.")
            part.replace(to)
        except httpx.TransportError as error:
            raise RequestFailed(
                f"The download of {name} broke off ({type(error).__name__}: {error}); try again."
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return to

    def _send(self, method: str, route: str, **request: Any) -> httpx.Response:
        if method == "POST":
            # One key for all tries: what was carried out unseen is not carried out twice.
            request["headers"] = {"Idempotency-Key": secrets.token_hex(16)}
        for attempt in range(1, ATTEMPTS + 1):
            answer = None
            try:
                answer = self._http.request(method, route, **request)
            except httpx.TransportError as error:
                # A POST may have been carried out before the connection broke.
                if method != "GET" or attempt == ATTEMPTS:
                    raise RequestFailed(
                        f"No answer from {self.url} ({type(error).__name__}: {error}). Is the "
                        "service running? `secateur serve` starts one."
                    ) from error
            else:
                if answer.status_code not in (429, 503) or attempt == ATTEMPTS:
                    if answer.is_error:
                        raise _failed(answer)
                    return answer
            time.sleep(_pause(answer, attempt))
        raise AssertionError("unreachable")


def _pause(answer: httpx.Response | None, attempt: int) -> float:
    """Seconds until the next try: what the service asks for, when it is for the caller to wait."""
    asked = answer.headers.get("retry-after", "") if answer is not None else ""
    if answer is not None and answer.status_code == 429 and asked.isdigit():
        return min(float(asked), LONGEST_PAUSE_SECONDS)
    return float(0.2 * 2**attempt)


def _failed(answer: httpx.Response) -> RequestFailed:
    try:
        problem = answer.json()
        return RequestFailed(str(problem["detail"]), field=problem.get("field"))
    except (ValueError, KeyError, TypeError):
        return RequestFailed(f"The service answered {answer.status_code}: {answer.text[:300]}")
