"""A database with a model and a data set in it, and the services around it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.adapters.database import Database, DatasetRow, EventRow, JobRow, ModelRow
from app.adapters.queue import CeleryQueue
from app.adapters.store import FolderStore
from app.domain.dataset import DatasetOptions
from app.domain.job import Attempt
from app.domain.spec import PruningSpec
from app.intake.datasets import inspect_dataset
from app.intake.models import inspect_model
from app.services import lifecycle
from app.services.analyses import Analyses
from app.services.examples import DATASET_FILE, MODEL_FILE
from app.services.jobs import Jobs
from app.services.uploads import Uploads
from app.settings import Settings

LEASE_SECONDS = 60.0


@cache
def _model_info() -> dict[str, Any]:
    return inspect_model(MODEL_FILE, MODEL_FILE.name).model_dump(mode="json", by_alias=True)


@cache
def _dataset_info() -> dict[str, Any]:
    return inspect_dataset(DATASET_FILE, DATASET_FILE.name, DatasetOptions()).model_dump(
        mode="json", by_alias=True
    )


def spec(**parts: Any) -> PruningSpec:
    return PruningSpec.model_validate(
        {
            "model": "mdl_1",
            "dataset": "dts_1",
            "prune": {"target": {"kind": "fraction", "remove": 0.5}},
        }
        | parts
    )


@dataclass
class World:
    """What the tests act on."""

    database: Database
    store: FolderStore
    queue: CeleryQueue
    settings: Settings
    uploads: Uploads
    jobs: Jobs
    analyses: Analyses

    def job(self, **parts: Any) -> str:
        """Id of a fresh queued job."""
        return str(self.jobs.submit(spec(**parts)).body["id"])

    def attempt(self, job: str | None = None, worker: str = "one") -> Attempt:
        """A claimed job."""
        attempt = lifecycle.claim(self.database, job or self.job(), worker, LEASE_SECONDS)
        assert attempt is not None
        return attempt

    def row(self, job: str) -> JobRow:
        with self.database.read() as session:
            return session.get_one(JobRow, job)

    def events(self, job: str) -> list[str]:
        with self.database.read() as session:
            return list(
                session.scalars(
                    select(EventRow.kind).where(EventRow.job_id == job).order_by(EventRow.id)
                )
            )

    def change(self, job: str, **values: Any) -> None:
        with self.database.write() as session:
            session.execute(update(JobRow).where(JobRow.id == job).values(**values))

    def lose_worker(self, job: str) -> None:
        """Its lease ran out one second ago, ten seconds after the attempt's start."""
        self.change(
            job,
            lease_expires_at=func.clock() - 1,
            attempt_started_at=func.clock() - 11,
        )


def _rows() -> tuple[ModelRow, DatasetRow]:
    model = ModelRow(
        id="mdl_1",
        created_at=0.0,
        filename="m.keras",
        key="blobs/aa/m",
        bytes=1,
        sha256="a" * 64,
        info=_model_info(),
    )
    dataset = DatasetRow(
        id="dts_1",
        created_at=0.0,
        filename="d.npz",
        key="blobs/bb/d",
        bytes=1,
        sha256="b" * 64,
        info=_dataset_info(),
    )
    return model, dataset


def world_on(
    database: Database, store: FolderStore, queue: CeleryQueue, folder: Path, **settings: Any
) -> World:
    made = Settings(data_dir=folder, **settings)
    with database.write() as session:
        session.add_all(_rows())
    jobs = Jobs(database, store, queue, made)
    return World(database, store, queue, made, Uploads(database, store, made), jobs, Analyses(jobs))


@pytest.fixture
def world(database: Database, store: FolderStore, queue: CeleryQueue, tmp_path: Path) -> World:
    return world_on(database, store, queue, tmp_path)
