"""The previous release's database becomes this one's, with all that is in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app.adapters.database import Database, JobRow
from app.adapters.database.schema import head, revision
from app.domain.job import Status
from app.services import backup, lifecycle
from app.services.jobs import Jobs
from app.settings import Settings
from tests.app.api.conftest import Api, _plain_logs, serve  # noqa: F401
from tests.app.upgrades.conftest import REVISION, job_in, rows, unpack


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def old(
    request: pytest.FixtureRequest, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A data folder, or a PostgreSQL, of the release."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("old"), broker_url=broker_url)
    if request.param == "sqlite":
        unpack(settings.effective_database_url, settings.store_dir)
        yield settings
        return
    url = request.getfixturevalue("postgres_url")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE old"))
        named = make_url(url).set(database="old").render_as_string(hide_password=False)
        settings = settings.model_copy(update={"database_url": named})
        unpack(named, settings.store_dir)
        yield settings
        connection.execute(text("DROP DATABASE old WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="module")
def api(old: Settings) -> Iterator[Api]:
    """This release, started on it."""
    assert revision(old.effective_database_url) == REVISION
    with serve(old) as client:
        yield client


def test_starting_brings_the_tables_up_to_date(api: Api) -> None:
    assert revision(api.context.database.url) == head() != REVISION
    assert api.get("/readyz").json()["database"] == "ok"


def test_every_job_is_served_as_it_was(api: Api) -> None:
    for row in rows()["jobs"]:
        if row["kind"] != "prune":
            continue
        job = api.get(f"/v1/jobs/{row['id']}").json()
        assert job["status"] == row["state"]
        assert job["attempt"] == row["fence"]
        assert (job["error"] or {}).get("type") == (row["error"] or {}).get("type")
        events = api.get(f"/v1/jobs/{row['id']}/events", headers={"Accept": "application/json"})
        assert len(events.json()["items"]) == row["last_event"]


def test_uploads_sweeps_and_answers_are_served(api: Api) -> None:
    (model,), (dataset,), (sweep,) = (rows()[name] for name in ("models", "datasets", "sweeps"))
    assert api.get(f"/v1/models/{model['id']}").json()["sha256"] == model["sha256"]
    assert api.get(f"/v1/datasets/{dataset['id']}").json()["splits"] == dataset["info"]["splits"]
    assert api.get(f"/v1/sweeps/{sweep['id']}").json()["counts"] == {"succeeded": 2}
    assert api.get(f"/v1/models/{model['id']}/analysis").status_code == 200


def test_artifacts_can_be_downloaded(api: Api) -> None:
    job = job_in("succeeded")
    files = api.get(f"/v1/jobs/{job}/artifacts").json()
    assert {file["name"] for file in files} == {"model.keras", "metrics.json", "log.txt"}
    for file in files:
        content = api.get(f"/v1/jobs/{job}/artifacts/{file['name']}").content
        assert len(content) == file["bytes"]


def test_what_rows_refer_to_is_in_the_store(api: Api) -> None:
    assert list(backup.lost(api.context.database, api.context.store)) == []


def test_the_running_job_goes_on_from_its_checkpoint(api: Api) -> None:
    job, database = job_in("running"), api.context.database
    assert lifecycle.reap(database) == (job,)
    attempt = lifecycle.claim(database, job, "new", 60)
    assert attempt is not None
    assert attempt.fence == 2
    assert attempt.checkpoint is not None
    lifecycle.finish(database, attempt, Status.SUCCEEDED)
    assert api.get(f"/v1/jobs/{job}").json()["status"] == "succeeded"


def test_the_queued_job_is_claimed(api: Api) -> None:
    job, database = job_in("queued"), api.context.database
    assert job in lifecycle.undispatched(database, "jobs", 5.0)
    attempt = lifecycle.claim(database, job, "new", 60)
    assert attempt is not None
    assert attempt.owner == "default"


def test_new_jobs_are_taken(api: Api) -> None:
    (model,) = rows()["models"]
    spec: dict[str, Any] = {
        "model": model["id"],
        "prune": {"target": {"kind": "fraction", "remove": 0.5}},
    }
    assert api.post("/v1/jobs", json=spec).status_code == 202
    retried = api.post(f"/v1/jobs/{job_in('failed')}/retry")
    assert retried.json()["status"] == "queued"


def test_a_backup_of_the_release_restores_into_this_one(tmp_path: Path) -> None:
    old = Settings(data_dir=tmp_path / "old")
    unpack(old.effective_database_url, old.store_dir)
    made = backup.backup(old, tmp_path / "backup")
    assert (made.revision, made.missing) == (REVISION, ())
    shutil.rmtree(old.data_dir)
    new = Settings(data_dir=tmp_path / "new")
    done = backup.restore(tmp_path / "backup", new)
    assert done.requeued == 1
    database = Database(new.effective_database_url)
    try:
        assert list(backup.lost(database, _store(new))) == []
        with database.read() as session:
            row = session.get_one(JobRow, job_in("running"))
        assert row.state == Status.QUEUED
        assert row.attempts_allowed - row.fence == new.max_attempts
    finally:
        database.close()


def _store(settings: Settings) -> Any:
    from app.adapters.store import FolderStore

    return FolderStore(settings.store_dir)


def test_jobs_are_their_owners_only(api: Api) -> None:
    jobs: Jobs = api.context.jobs
    assert {job.id for job in jobs.newest(100, None)} >= {
        row["id"] for row in rows()["jobs"] if row["kind"] == "prune"
    }
