"""The doorway: a message says where to look, and never more."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.adapters.database import JobRow, migrate
from app.adapters.store import FolderStore
from app.cli import cli
from app.domain.spec import PruningSpec
from app.services.examples import Examples
from app.services.jobs import Jobs
from app.services.uploads import Uploads
from app.settings import Settings
from tests.workers.test_supervise import SilentQueue
from workers.tasks import Doorway


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, worker_queues="jobs gpu")


def submitted(settings: Settings, *accelerators: str) -> list[str]:
    """Jobs in the queue."""
    migrate(settings.effective_database_url)
    doorway = Doorway(settings, lambda: False)
    store = FolderStore(settings.store_dir)
    jobs = Jobs(doorway.database, store, SilentQueue(), settings)
    examples = Examples(Uploads(doorway.database, store, settings), jobs)
    body = {"model": "mdl_example", "prune": {"target": {"kind": "fraction", "remove": 0.5}}}
    made = []
    for accelerator in accelerators:
        asked = PruningSpec.model_validate(body | {"resources": {"accelerator": accelerator}})
        made.append(str(jobs.submit(examples.ensure_named(asked)).body["id"]))
    doorway.database.close()
    return made


def claimed(settings: Settings, word: str) -> str | None:
    doorway = Doorway(settings, lambda: False)
    try:
        attempt = doorway._claim(word)
        return attempt and attempt.job
    finally:
        doorway.database.close()


def test_a_message_leads_to_the_queue_that_it_names(settings: Settings) -> None:
    cpu, gpu = submitted(settings, "none", "gpu")
    assert claimed(settings, "gpu") == gpu
    assert claimed(settings, "gpu") is None
    assert claimed(settings, "jobs") == cpu


def test_a_stray_message_leads_nowhere(settings: Settings) -> None:
    submitted(settings, "gpu")
    cpu_only = settings.model_copy(update={"worker_queues": "jobs quick"})
    assert claimed(cpu_only, "gpu") is None
    assert claimed(cpu_only, "jobs") is None


def test_a_message_of_an_older_release_makes_the_worker_look_everywhere(
    settings: Settings,
) -> None:
    (gpu,) = submitted(settings, "gpu")
    assert claimed(settings, "job_01ABC") == gpu


def test_a_worker_allows_as_much_memory_as_its_settings(settings: Settings) -> None:
    (cpu,) = submitted(settings, "none")
    small = settings.model_copy(update={"job_memory_bytes": 2**32})
    doorway = Doorway(settings, lambda: False)
    with doorway.database.write() as session:
        session.get_one(JobRow, cpu).memory_bytes = 2**33
    doorway.database.close()
    assert claimed(small, "jobs") is None
    assert claimed(settings, "jobs") == cpu


@pytest.mark.parametrize(
    ("arguments", "environment", "queues"),
    [
        ([], {}, "jobs,quick"),
        (["--queue", "gpu", "--queue", "jobs"], {}, "jobs,gpu"),
        ([], {"SECATEUR_WORKER_QUEUES": "large, quick"}, "quick,large"),
        (["--queue", "quick"], {"SECATEUR_WORKER_QUEUES": "large"}, "quick"),
    ],
)
def test_a_worker_serves_what_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    environment: dict[str, str],
    queues: str,
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: became.append(command))
    # Set, then taken away: what the command sets is undone, too.
    monkeypatch.setenv("SECATEUR_WORKER_QUEUES", "")
    monkeypatch.delenv("SECATEUR_WORKER_QUEUES")
    told = {"SECATEUR_DATA_DIR": str(tmp_path), "SECATEUR_BROKER_URL": "redis://h/0"}
    for name, value in (told | environment).items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(cli, ["worker", *arguments]).exit_code == 0
    assert f"--queues={queues}" in became[0]
    # What becomes of it reads its own settings.
    assert Settings().served_queues == tuple(queues.split(","))


def test_an_unknown_queue_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECATEUR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECATEUR_WORKER_QUEUES", "")
    refused = CliRunner().invoke(cli, ["worker", "--queue", "tpu"])
    assert refused.exit_code == 2
    assert "SECATEUR_WORKER_QUEUES" in refused.output
