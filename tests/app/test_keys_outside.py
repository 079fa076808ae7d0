"""Keys from outside: the commands, a real API process, its log and its database file."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.cli import NO_KEYS, _guard
from app.domain.people import parse_key
from app.settings import Settings
from tests.keyed import SECATEUR, Keyed, keyed_api


@pytest.fixture(scope="module")
def served(broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_api(tmp_path_factory.mktemp("served"), broker_url) as served:
        yield served


def test_without_any_key_the_service_says_what_to_do(served: Keyed) -> None:
    assert NO_KEYS.format(host="127.0.0.1") in served.log()
    assert served.get("/v1/jobs").status_code == 401
    assert served.get("/healthz").status_code == 200


def test_a_key_s_life_on_the_command_line(served: Keyed) -> None:
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
def test_mistakes_are_sentences(served: Keyed, arguments: tuple[str, ...], said: str) -> None:
    done = served.run("keys", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("secateur: ")
    assert said in done.stderr
    assert done.stdout == ""


def test_no_secret_is_logged_or_kept(served: Keyed) -> None:
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
def test_a_connection_that_asks_nothing_is_closed(served: Keyed, said: bytes) -> None:
    address = httpx.URL(served.url)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
        connection.sendall(said)
        started = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - started > 1


def test_a_connection_that_asks_is_kept(served: Keyed) -> None:
    ports = set()
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        for _ in range(6):
            time.sleep(0.6)
            answer = client.get("/healthz")
            assert answer.status_code == 200
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
    assert len(ports) == 1  # A client connects again without a word.


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
