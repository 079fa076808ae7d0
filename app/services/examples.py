"""The example model, data set and job behind the examples in Swagger UI.

They are made when somebody first names them, so that "Try it out" works and lists stay empty
for those who never do. Each owner has their own: `mdl_example` is the default owner's model,
and for others a name of one of their own, which answers tell.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.adapters.database import (
    DatasetRow,
    DeliveryRow,
    JobRow,
    ModelRow,
    SweepRow,
    WebhookRow,
)
from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.model import ModelInfo
from app.domain.people import DEFAULT_OWNER
from app.domain.ports import Blob
from app.domain.spec import PruningSpec
from app.domain.sweep import SweepSpec, members
from app.domain.webhook import WebhookSpec
from app.services import outbox
from app.services.jobs import Jobs
from app.services.sweeps import Sweeps
from app.services.uploads import Uploads
from app.services.webhooks import Webhooks

FILES = Path(__file__).parent.parent / "examples"
MODEL, DATASET, JOB, SWEEP = "mdl_example", "dts_example", "job_example", "swp_example"
WEBHOOK, DELIVERY = "whk_example", "whd_example"
RECEIVER = "https://hooks.example/secateur"
"""No name below .example is anybody's [RFC 2606]: nothing is sent to a stranger."""
MODEL_FILE, DATASET_FILE = FILES / "digits.keras", FILES / "digits.npz"
JOB_SPEC = PruningSpec.model_validate(
    {
        "model": MODEL,
        "dataset": DATASET,
        "prune": {"granularity": "unit", "target": {"kind": "fraction", "remove": 0.5}},
        "fine_tune": {"epochs": 2},
    }
)


class Examples:
    """Makes examples on first use."""

    def __init__(self, uploads: Uploads, jobs: Jobs) -> None:
        self.owner = jobs.caller.owner
        self.uploads = uploads
        self.jobs = jobs
        self.sweeps = Sweeps(jobs)
        self.webhooks = Webhooks(jobs.database, jobs.settings, jobs.caller)
        self._makers: dict[str, Callable[[], None]] = {
            MODEL: self._model,
            DATASET: self._dataset,
            JOB: self._job,
            SWEEP: self._sweep,
            WEBHOOK: self._webhook,
            DELIVERY: self._delivery,
        }

    def is_one(self, id_: str) -> bool:
        """Whether an id is an example's, which is made when somebody asks for it."""
        return id_ in self._makers

    def ensure(self, id_: str) -> str:
        """The id that is meant; if it is an example's that is not there, the example is made."""
        if id_ in self._makers:
            try:
                self._makers[id_]()
            except IntegrityError:
                pass  # Another request has just made it.
        return self.id(id_)

    def id(self, id_: str) -> str:
        """The caller's own id of an example; other ids as they are."""
        if id_ not in self._makers or self.owner == DEFAULT_OWNER:
            return id_
        return f"{id_}{hashlib.sha256(self.owner.encode()).hexdigest()[:16]}"

    def ensure_named(self, spec: PruningSpec) -> PruningSpec:
        """The spec with the ids that are meant; the examples among them are made."""
        named: dict[str, str] = {"model": self.ensure(spec.model)}
        if spec.dataset is not None:
            named["dataset"] = self.ensure(spec.dataset)
        return spec.model_copy(update=named)

    def _model(self) -> None:
        if not self._there(ModelRow, MODEL):
            info, blob = self.uploads.read_model(MODEL_FILE, MODEL_FILE.name)
            self._keep(ModelRow, self.id(MODEL), MODEL_FILE, info, blob)

    def _dataset(self) -> None:
        if not self._there(DatasetRow, DATASET):
            options = DatasetOptions(scale=1 / 16)
            info = self.uploads.readers.dataset(DATASET_FILE, DATASET_FILE.name, options)
            blob = self.uploads.store.put_file(None, DATASET_FILE)
            self._keep(DatasetRow, self.id(DATASET), DATASET_FILE, info, blob)

    def _job(self) -> None:
        spec = self.ensure_named(JOB_SPEC)
        if not self._there(JobRow, JOB):
            self.jobs.submit_as(self.id(JOB), spec)

    def _sweep(self) -> None:
        spec = self.ensure_named(JOB_SPEC)
        if not self._there(SweepRow, SWEEP):
            asked = SweepSpec(
                base=spec.model_dump(mode="json"),
                grid={"prune.target.remove": (0.3, 0.6, 0.9)},
                name="example",
            )
            read = [(each, PruningSpec.model_validate(each.spec)) for each in members(asked)]
            self.sweeps.submit(asked, read, id_=self.id(SWEEP))

    def _webhook(self) -> None:
        if not self._there(WebhookRow, WEBHOOK):
            # Not enabled: it would have a delivery of every job, none of which could arrive.
            spec = WebhookSpec(url=RECEIVER, enabled=False)
            with self.uploads.database.write() as session:
                self.webhooks.insert(session, spec, self.id(WEBHOOK))

    def _delivery(self) -> None:
        self._webhook()
        if not self._there(DeliveryRow, DELIVERY):
            with self.uploads.database.write() as session:
                hook = session.get_one(WebhookRow, self.id(WEBHOOK))
                outbox.ping(session, hook, self.id(DELIVERY))

    def _there(self, kind: Any, id_: str) -> bool:
        query = select(kind.id).where(kind.id == self.id(id_))
        with self.uploads.database.read() as session:
            return session.scalar(query) is not None

    def _keep(
        self,
        kind: type[ModelRow | DatasetRow],
        id_: str,
        file: Path,
        info: ModelInfo | DatasetInfo,
        blob: Blob,
    ) -> None:
        content = file.read_bytes()
        with self.uploads.database.write() as session:
            session.add(
                kind(
                    id=id_,
                    owner=self.owner,
                    created_at=_now(session),
                    filename=file.name,
                    key=blob.key,
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    info=info.model_dump(mode="json", by_alias=True),
                )
            )


def _now(session: Session) -> float:
    now = session.scalar(select(func.clock()))
    assert now is not None
    return float(now)
