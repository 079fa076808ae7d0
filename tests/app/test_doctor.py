"""`secateur doctor`: each finding, with what to do, and no password anywhere."""

import compileall
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from app.adapters.database import Database, migrate
from app.cli import cli
from app.doctor import confinement, contradictions, machine, services, versions
from app.doctor.check import Check
from app.domain.confinement import Confinement, Mechanism
from app.domain.people import Scope
from app.services import workers
from app.services.keys import Keys
from app.settings import Settings
from tests.servers import free_port


def one(checks: Any, name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", **more)


# --- settings ----------------------------------------------------------------------------------
def test_the_defaults_contradict_nothing() -> None:
    (found,) = contradictions.contradictions(Settings())
    assert found.state == "ok"


@pytest.mark.parametrize(
    ("wrong", "state", "advice"),
    [
        ({"heartbeat_seconds": 7.0}, "fail", "SECATEUR_LEASE_SECONDS"),
        ({"job_disk_bytes": 1}, "warn", "SECATEUR_JOB_DISK_BYTES"),
        ({"upload_limit_bytes": 2**50}, "warn", "SECATEUR_UPLOAD_LIMIT_BYTES"),
        ({"broker_url": "redis://h/0"}, "warn", "SECATEUR_DATABASE_URL"),
        ({"require_keys": "never"}, "warn", "SECATEUR_REQUIRE_KEYS"),
        ({"allow_unconfined": True}, "warn", "SECATEUR_ALLOW_UNCONFINED"),
        ({"job_uid_first": 1, "job_uid_count": 100_000}, "fail", "SECATEUR_JOB_UID_FIRST"),
    ],
)
def test_contradictions_are_named_with_the_setting(
    wrong: dict[str, Any], state: str, advice: str
) -> None:
    found = list(contradictions.contradictions(Settings(**wrong)))
    assert any(check.state == state and advice in check.advice for check in found), found


# --- machine, versions -------------------------------------------------------------------------
def test_little_room_is_a_warning_and_none_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, state in ((2**20, "fail"), (2**30, "warn"), (2**50, "ok")):
        left = SimpleNamespace(free=free)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, left=left: left)
        found = list(machine.machine(settings(tmp_path)))
        assert one(found, "disk of the data").state == state
        assert one(found, "disk of jobs").state == state


def test_packages_that_workers_would_compile_anew_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("__init__", "layers"):
        (tmp_path / f"{name}.py").write_text("")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(versions, "find_spec", lambda _: spec)
    found = one(versions.versions(), "bytecode")
    assert (found.state, found.found[:6]) == ("warn", "0 of 4")
    assert str(tmp_path.parent) in found.advice
    assert compileall.compile_dir(tmp_path, quiet=1)
    assert one(versions.versions(), "bytecode").state == "ok"
    monkeypatch.setattr(versions, "find_spec", lambda _: None)  # No worker's packages.
    assert "bytecode" not in {check.name for check in versions.versions()}


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [(64, 32, "ok"), (64, 0.5, "warn"), (2, 1.5, "warn"), (None, None, "warn")],
)
def test_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    total: float | None,
    free: float | None,
    state: str,
) -> None:
    file = tmp_path / "meminfo"
    if total is not None and free is not None:
        file.write_text(
            f"MemTotal: {int(total * 2**20)} kB\nMemAvailable: {int(free * 2**20)} kB\n"
        )
    monkeypatch.setattr(machine, "MEMINFO", file)
    assert one(machine.machine(settings(tmp_path)), "memory").state == state


def test_packages_are_compared_with_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(versions.versions())
    for name in ("python", "packages", "worker packages"):
        assert one(found, name).state == "ok"
    assert "tensorflow" in one(found, "worker packages").found
    real = versions.version
    monkeypatch.setattr(versions, "version", lambda n: "3.1.0" if n == "keras" else real(n))
    found = list(versions.versions())
    assert one(found, "packages").state == "ok"
    assert "keras is 3.1.0, expected" in one(found, "worker packages").found
    assert one(found, "worker packages").state == "warn"


def test_the_doctor_imports_no_tensorflow() -> None:
    from tests.app.importing import loaded

    code = "from app.doctor.versions import versions; list(versions())"
    assert loaded(code, {"keras", "tensorflow", "numpy"}) == set()


# --- services ----------------------------------------------------------------------------------
def test_a_broker_that_answers_is_named_without_its_password(
    tmp_path: Path, broker_url: str
) -> None:
    found = services.broker(settings(tmp_path, broker_url=broker_url))
    assert found.state == "ok"
    assert "Valkey" in found.found or "Redis" in found.found
    assert broker_url.split(":")[2].split("@")[0] not in found.model_dump_json()


def test_a_stopped_broker_and_database_fail_without_their_passwords(tmp_path: Path) -> None:
    port = free_port()
    wrong = settings(
        tmp_path,
        broker_url=f"redis://:hunter2@127.0.0.1:{port}/0",
        database_url=f"postgresql+psycopg://u:hunter2@127.0.0.1:{port}/d?connect_timeout=2",
    )
    found = [services.broker(wrong), *services.database(wrong)]
    assert [check.state for check in found] == ["fail", "fail"]
    assert "SECATEUR_BROKER_URL" in found[0].advice
    assert "SECATEUR_DATABASE_URL" in found[1].advice
    assert "hunter2" not in str(found)
    assert "\n" not in found[1].found


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    new = settings(tmp_path)
    assert services.broker(new).state == "warn"
    assert one(services.database(new), "database").state == "warn"
    assert services.store(new).state == "warn"
    assert not new.data_dir.exists()


def test_a_database_of_another_release_fails(tmp_path: Path) -> None:
    there = settings(tmp_path, require_keys="always")
    there.data_dir.mkdir()
    (there.data_dir / "secateur.sqlite3").touch()
    found = one(services.database(there), "tables")
    assert found.state == "fail"
    assert "admin migrate" in found.advice


def test_clock_keys_and_workers(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database_url)
    there = settings(tmp_path, database_url=database_url, require_keys="always")
    found = list(services.database(there))
    assert one(found, "clock").state == "ok"
    assert one(found, "keys").state == "warn"
    assert one(found, "workers").state == "warn"
    opened = Database(database_url)
    Keys(opened).create("alice", [Scope.READ])
    workers.report(opened, "host:1", Confinement())
    opened.close()
    real = services.time.time
    for away, state in ((5, "warn"), (60, "fail")):
        monkeypatch.setattr(services.time, "time", lambda away=away: real() + away)
        found = list(services.database(there))
        assert one(found, "clock").state == state
    assert [check for check in found if check.name == "keys"] == []
    assert one(found, "workers").state == "fail"


def test_the_store_is_tried(tmp_path: Path) -> None:
    there = settings(tmp_path)
    there.data_dir.mkdir()
    assert services.store(there).state == "ok"
    assert [path for path in there.store_dir.rglob("*") if path.is_file()] == []
    shutil.rmtree(there.store_dir / "tmp")
    (there.store_dir / "tmp").touch()
    found = services.store(there)
    assert found.state == "fail"
    assert "disk full" in found.advice


# --- confinement -------------------------------------------------------------------------------
def told(tmp_path: Path, found: Confinement) -> tuple[str, ...]:
    file = tmp_path / "told.json"
    file.write_text(found.model_dump_json())
    return (sys.executable, "-c", f"print(open({str(file)!r}).read())")


def test_each_mechanism_has_its_line(tmp_path: Path) -> None:
    there, away = Mechanism(active=True, detail="tried"), Mechanism(detail="no such call")
    found = Confinement(user=there, landlock=away, seccomp=there, network=away)
    states = {c.name: c.state for c in confinement.confinement(told(tmp_path, found))}
    assert states == {
        "confinement: a user of its own": "ok",
        "confinement: Landlock": "fail",
        "confinement: a seccomp filter": "ok",
        "confinement: a network namespace of its own": "warn",
    }
    allowed = found.model_copy(update={"overridden": True})
    states = {c.name: c.state for c in confinement.confinement(told(tmp_path, allowed))}
    assert states["confinement: Landlock"] == "warn"


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "print('no json')"])
def test_a_trial_that_fails_is_a_failure(code: str) -> None:
    (found,) = confinement.confinement((sys.executable, "-c", code))
    assert found.state == "fail"


# --- the command -------------------------------------------------------------------------------
def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["doctor", *arguments])
    return done.exit_code, done.stdout


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the trial, which takes a second, and whatever this machine allows."""
    there = Mechanism(active=True, detail="tried")
    found = Confinement(user=there, landlock=there, seccomp=there, network=there)
    program = told(tmp_path, found)
    monkeypatch.setattr(confinement.confinement, "__defaults__", (program,))


@pytest.mark.usefixtures("quick")
def test_warnings_are_no_failure_and_failures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = run("--json", "--data-dir", str(tmp_path / "none"))
    found = json.loads(said)
    assert status == 0, [check for check in found if check["state"] == "fail"]
    assert {check["state"] for check in found} == {"ok", "warn"}
    port = free_port()
    monkeypatch.setenv("SECATEUR_BROKER_URL", f"redis://:hunter2@127.0.0.1:{port}/0")
    status, said = run("--data-dir", str(tmp_path / "none"))
    assert status == 1
    assert "fail" in said
    assert "hunter2" not in said


def test_settings_that_are_not_understood_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_LEASE_SECONDS", "long")
    status, said = run("--json")
    (found,) = json.loads(said)
    assert status == 1
    assert found["found"].startswith("SECATEUR_LEASE_SECONDS: ")
    assert os.environ["SECATEUR_LEASE_SECONDS"] not in found["advice"]
