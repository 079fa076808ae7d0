"""`secateur admin` on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.adapters.database import migrate
from app.adapters.database.schema import head
from app.cli import cli
from app.domain.errors import Conflict, NotFound
from app.settings import Settings
from tests.app.upgrades.conftest import job_in, unpack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A service's data folder with jobs in every state, of this release."""
    settings = Settings(data_dir=tmp_path / "data")
    unpack(settings.effective_database_url, settings.store_dir)
    migrate(settings.effective_database_url)
    return settings.data_dir


def admin(folder: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(cli, ["admin", *arguments, "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_jobs_are_listed_with_what_is_wrong(folder: Path) -> None:
    said = admin(folder, "jobs").stdout
    assert job_in("running") in said
    assert "lease ran out" in said
    assert job_in("succeeded") not in said
    lines = [json.loads(line) for line in admin(folder, "jobs", "--json").stdout.splitlines()]
    assert {line["id"]: line["status"] for line in lines} == {
        job_in("running"): "running",
        job_in("queued"): "queued",
    }
    (one,) = admin(folder, "jobs", "--stuck", "--json").stdout.splitlines()
    assert json.loads(one)["id"] == job_in("running")


def test_a_stuck_job_is_put_back_and_cancelled(folder: Path) -> None:
    job = job_in("running")
    assert "is queued" in admin(folder, "requeue", job).stdout
    assert "is cancelled" in admin(folder, "cancel", job).stdout
    with pytest.raises(NotFound):
        admin(folder, "cancel", "job_x")


def test_gc_lists_before_it_deletes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_BLOB_GRACE_SECONDS", "0")
    orphan = folder / "store/blobs/aa" / ("a" * 64)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"x")
    said = admin(folder, "gc")
    assert said.stdout.split() == [f"blobs/aa/{'a' * 64}"]
    assert "--delete" in said.stderr
    assert orphan.exists()
    assert admin(folder, "gc", "--delete").stdout.split() == [f"blobs/aa/{'a' * 64}"]
    assert not orphan.exists()


def test_migrate_checks_and_migrates(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "old")
    unpack(settings.effective_database_url, settings.store_dir)
    checked = admin(settings.data_dir, "migrate", "--check")
    assert checked.exit_code == 1
    assert f"Revision 0004; this release works with {head()}." in checked.stdout
    with pytest.raises(Conflict, match="admin migrate"):
        admin(settings.data_dir, "jobs")
    assert f"Revision 0004 before, {head()} now." in admin(settings.data_dir, "migrate").stdout
    assert admin(settings.data_dir, "migrate", "--check").exit_code == 0


def test_tables_are_taken_back_and_brought_up_again(folder: Path) -> None:
    before = admin(folder, "jobs", "--json").stdout.count("\n")
    assert "0004 now" in admin(folder, "migrate", "--to", "0004").stdout
    assert admin(folder, "migrate", "--check").exit_code == 1
    admin(folder, "migrate")
    assert admin(folder, "jobs", "--json").stdout.count("\n") == before
    for wrong in ("9999", head()):
        refused = admin(folder, "migrate", "--to", wrong)
        assert refused.exit_code == 2
        assert "one before it" in refused.output


def test_a_mistyped_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="--data-dir"):
        admin(tmp_path / "typo", "jobs")
    assert admin(tmp_path / "typo", "migrate", "--check").exit_code == 1
    assert not (tmp_path / "typo").exists()


def test_a_backup_is_made_restored_and_verified(folder: Path, tmp_path: Path) -> None:
    assert "7 files" in admin(folder, "backup", str(tmp_path / "backup")).stdout
    restored = admin(tmp_path / "new", "restore", str(tmp_path / "backup"))
    assert "1 jobs that were running are queued again" in restored.stdout
    assert admin(tmp_path / "new", "verify").exit_code == 0
    lost = next((tmp_path / "new/store/jobs").rglob("model.keras"))
    lost.unlink()
    found = admin(tmp_path / "new", "verify")
    assert found.exit_code == 1
    assert found.stdout.strip().endswith("model.keras")
    assert admin(tmp_path / "new", "backup", str(tmp_path / "second")).exit_code == 1
