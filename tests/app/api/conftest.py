"""The real application behind a real HTTP server in this process, and a client that checks it.

Every answer's status and media type must be documented for its operation, and every problem must
be a whole one.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from app.api.context import Context
from app.domain.job import ArtifactFile, Attempt, Status
from app.main import create_app
from app.services import lifecycle
from app.services.examples import DATASET_FILE, MODEL_FILE
from app.settings import Settings
from tests.app.conftest import empty

SPEC: dict[str, Any] = {
    "model": "mdl_example",
    "dataset": "dts_example",
    "prune": {"target": {"kind": "fraction", "remove": 0.5}},
}
PROBLEM = {"type", "title", "status", "detail", "instance", "fault", "retryable"}


class Api(httpx.Client):
    """A client of one served application."""

    def __init__(self, app: FastAPI, url: str) -> None:
        super().__init__(
            base_url=url, timeout=20, trust_env=False, event_hooks={"response": [self._check]}
        )
        self.app = app
        self.document = app.openapi()
        self._allowed: tuple[int, ...] = ()

    @property
    def context(self) -> Context:
        context = self.app.state.context
        assert isinstance(context, Context)
        return context

    @property
    def address(self) -> tuple[str, int]:
        return str(self.base_url.host), int(self.base_url.port or 0)

    @contextmanager
    def expecting(self, status: int) -> Iterator[None]:
        """Answers have this status, even if it is 500."""
        self._allowed = (status,)
        yield
        self._allowed = ()

    # --- what any answer must be ---------------------------------------------------------------
    def _check(self, answer: httpx.Response) -> None:
        assert answer.status_code in self._allowed or answer.status_code != 500, answer.read()
        if answer.status_code >= 400:
            answer.read()
            if answer.headers["content-type"] == "application/problem+json":
                check_problem(answer)
        if (operation := self._operation(answer.request)) is not None:
            documented = operation["responses"].get(str(answer.status_code))
            if documented is None:
                assert answer.status_code == 500, (answer.request.url, answer.status_code)
                return
            media_types = documented.get("content", {})
            said = answer.headers.get("content-type", "").split(";")[0]
            if answer.status_code >= 400:
                assert said in media_types, (answer.request.url, said)

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        for template, operations in self.document["paths"].items():
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            if re.fullmatch(pattern, request.url.raw_path.split(b"?")[0].decode()):
                found: dict[str, Any] | None = operations.get(request.method.lower())
                return found
        return None

    # --- shorthands ----------------------------------------------------------------------------
    def model(self, **headers: str) -> dict[str, Any]:
        return self._upload("/v1/models", MODEL_FILE, headers)

    def dataset(self, **headers: str) -> dict[str, Any]:
        return self._upload("/v1/datasets", DATASET_FILE, headers)

    def _upload(self, route: str, file: Path, headers: dict[str, str]) -> dict[str, Any]:
        answer = self.post(route, files={"file": (file.name, file.read_bytes())}, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def job(self, **parts: Any) -> str:
        answer = self.post("/v1/jobs", json=SPEC | parts)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def attempt(self, job: str) -> Attempt:
        attempt = lifecycle.claim(self.context.database, job, "worker", 60)
        assert attempt is not None
        return attempt

    def finished(self, folder: Path, **files: bytes) -> str:
        """A succeeded job with these artifacts; `model_keras` is called model.keras."""
        job = self.job()
        attempt = self.attempt(job)
        artifacts = []
        for name, content in files.items():
            name = name.replace("_", ".", 1)
            (folder / "artifact").write_bytes(content)
            blob = self.context.store.put_file(f"jobs/{job}/a1/{name}", folder / "artifact")
            artifacts.append(
                ArtifactFile(
                    name=name,
                    key=blob.key,
                    bytes=blob.bytes,
                    sha256=blob.sha256,
                    media_type="text/html; charset=utf-8"
                    if name.endswith("html")
                    else "application/vnd.keras",
                )
            )
        lifecycle.finish(self.context.database, attempt, Status.SUCCEEDED, artifacts=artifacts)
        return job


def check_problem(answer: httpx.Response) -> dict[str, Any]:
    """The body of a whole problem."""
    problem: dict[str, Any] = answer.json()
    assert problem.keys() >= PROBLEM, problem
    assert problem["status"] == answer.status_code
    assert problem["fault"] == ("service" if answer.status_code >= 500 else "client")
    assert isinstance(problem["retryable"], bool)
    assert problem["detail"].endswith((".", "?", ")")), problem["detail"]
    assert answer.headers["x-request-id"]
    return problem


def serve(settings: Settings) -> "Served":
    return Served(create_app(settings))


class Served:
    """A server in a thread, from `__enter__` to `__exit__`."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> Api:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self._socket.getsockname()[1]
        self._client = Api(self.app, f"http://127.0.0.1:{port}")
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> Iterator[None]:
    """Unconfigured, structlog draws every local variable of a traceback."""
    renderer = structlog.processors.KeyValueRenderer()
    structlog.configure(processors=[structlog.processors.format_exc_info, renderer])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def api(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """On SQLite; shared by all tests, so each looks at what it made itself."""
    folder = tmp_path_factory.mktemp("api")
    with serve(Settings(data_dir=folder, broker_url=broker_url)) as client:
        yield client


@pytest.fixture(scope="session")
def api_on_postgres(
    broker_url: str, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api_postgres")
    empty(postgres_url)
    settings = Settings(data_dir=folder, broker_url=broker_url, database_url=postgres_url)
    with serve(settings) as client:
        yield client


@pytest.fixture(params=["api", "api_on_postgres"])
def any_api(request: pytest.FixtureRequest) -> Api:
    client = request.getfixturevalue(request.param)
    assert isinstance(client, Api)
    return client


@contextmanager
def raw(api: Api, request: bytes) -> Iterator[socket.socket]:
    """A connection on which exactly these bytes were sent."""
    with socket.create_connection(api.address, timeout=10) as connection:
        connection.sendall(request)
        yield connection
