"""Keys from outside: the commands, a real API process, its log and its database file."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import httpx
import pytest

from app.cli import NO_KEYS, _guard, main
from app.domain.people import parse_key
from app.settings import Settings
from tests.servers import Process

SECATEUR = str(Path(sys.executable).with_name("secateur"))


class Said(NamedTuple):
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Served:
    """`secateur api` on loopback, asked to want keys."""

    url: str
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> Said:
        """The command in this process, which spares the seconds of starting another."""
        out, err, status = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.dict(os.environ, self.environment),
            mock.patch("sys.argv", ["secateur", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        return Said(status, out.getvalue(), err.getvalue())

    def key(self, *arguments: str) -> str:
        done = self.run("keys", "create", *arguments)
        assert done.returncode == 0, done.stderr
        assert "shown only now" in done.stderr
        return done.stdout.strip()

    def get(self, path: str, key: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.get(self.url + path, headers=headers, trust_env=False)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def served(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    environment = os.environ | {
        "SECATEUR_DATA_DIR": str(folder / "data"),
        "SECATEUR_BROKER_URL": broker_url,
        "SECATEUR_REQUIRE_KEYS": "always",
        "SECATEUR_SLOW_CLIENT_SECONDS": "1.5",
        "SECATEUR_LOG_LEVEL": "debug",
    }
    process = Process([SECATEUR, "api", "--port", "0"], folder / "log", environment=environment)
    try:
        deadline = time.monotonic() + 60
        while not (said := re.search(r"ready at (\S+)", (folder / "log").read_text())):
            assert not process.ended(), process.last_words()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Served(said[1], folder, environment)
    finally:
        process.stop()


def test_without_any_key_the_service_says_what_to_do(served: Served) -> None:
    assert NO_KEYS.format(host="127.0.0.1") in served.log()
    assert served.get("/v1/jobs").status_code == 401
    assert served.get("/healthz").status_code == 200


def test_a_key_s_life_on_the_command_line(served: Served) -> None:
    command = [SECATEUR, "keys", "create", "--owner", "alice", "--name", "laptop", "--days", "30"]
    key = subprocess.run(
        command, env=served.environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    parsed = parse_key(key)
    assert parsed is not None
    assert served.get("/v1/jobs", key).status_code == 200
    rotated = served.run("keys", "rotate", parsed.id, "--grace-hours", "1")
    assert "still works for 1 hours" in rotated.stderr
    successor = rotated.stdout.strip()
    assert [served.get("/v1/jobs", each).status_code for each in (key, successor)] == [200, 200]
    assert (
        served.run("keys", "revoke", parsed.id).stdout == f"Key {parsed.id} of alice is revoked.\n"
    )
    assert [served.get("/v1/jobs", each).status_code for each in (key, successor)] == [401, 200]
    listed = served.run("keys", "list", "--owner", "alice").stdout
    assert re.search(rf"{parsed.id} .*laptop .*read write .*revoked", listed)
    assert re.search(rf"{successor[4:16]} .*valid", listed)
    assert parsed.secret not in listed
    entries = [json.loads(line) for line in served.run("audit").stdout.splitlines()]
    actions = [entry["action"] for entry in entries if entry["target"] == parsed.id]
    assert actions == ["key.create", "key.rotate", "key.revoke"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--owner", "Alice"), "expected 1 to 31 lower-case letters"),
        (("create", "--owner", "alice", "--days", "-1"), "cannot expire after -1 days"),
        (("revoke", "nothing"), "There is no key"),
        (("rotate", "nothing"), "There is no key"),
    ],
)
def test_mistakes_are_sentences(served: Served, arguments: tuple[str, ...], said: str) -> None:
    done = served.run("keys", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("secateur: ")
    assert said in done.stderr
    assert done.stdout == ""


def test_no_secret_is_logged_or_kept(served: Served) -> None:
    keys = [served.key("--owner", "carol") for _ in range(4)]
    parsed = [each for key in keys if (each := parse_key(key)) is not None]
    assert served.get("/v1/jobs", keys[0]).status_code == 200
    served.run("keys", "revoke", parsed[1].id)
    assert served.get("/v1/jobs", keys[1]).status_code == 401
    assert served.get(f"/v1/models/{keys[2]}?key={keys[2]}", keys[2]).status_code == 422
    refused = served.get(f"/nope?{keys[3]}", keys[3] + "0")
    assert refused.status_code == 401
    for key in parsed:
        assert key.secret not in served.log()
        for file in (served.folder / "data").glob("secateur.sqlite3*"):
            assert key.secret.encode() not in file.read_bytes(), file
    password = served.environment["SECATEUR_BROKER_URL"].split(":")[2].split("@")[0]
    assert password not in served.log()
    assert '"owner": "carol"' in served.log()
    assert parsed[0].id in served.log()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_that_asks_nothing_is_closed(served: Served, said: bytes) -> None:
    address = httpx.URL(served.url)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
        connection.sendall(said)
        started = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - started > 1


def test_a_connection_that_asks_is_kept(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for _ in range(5):
            time.sleep(0.6)
            assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("asked", "host", "expected"),
    [
        ("auto", "127.0.0.1", "auto"),
        ("auto", "::1", "auto"),
        ("auto", "0.0.0.0", "always"),
        ("auto", "::", "always"),
        ("auto", "192.168.1.5", "always"),
        ("never", "0.0.0.0", "never"),
        ("always", "127.0.0.1", "always"),
    ],
)
def test_keys_are_asked_for_wherever_others_can_reach(
    asked: str, host: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path, require_keys=asked)
    assert _guard(settings, host).require_keys == expected
    assert ("secateur keys create" in capsys.readouterr().err) == (expected == "always")
