"""What the service tells of models, data sets, jobs and sweeps, as a client reads it.

Less strict than the service's own types: a field that a newer service adds, or a new choice in a
spec, must not break a client that only passes it on. Fields that are not named here are kept.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.domain.dataset import SplitInfo
from app.domain.job import Progress, Status
from app.domain.metrics import Metrics, State
from app.domain.model import LayerInfo, Mend, TensorInfo


class Seen(BaseModel):
    """Frozen; what else came is in `model_extra`, and goes along in `model_dump`."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class Uploaded(Seen):
    """What models and data sets have in common."""

    id: str
    created_at: datetime
    filename: str
    bytes: int
    sha256: str


class Model(Uploaded):
    """An uploaded model."""

    format: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    layers: tuple[LayerInfo, ...]
    mends: tuple[Mend, ...] = ()


class Dataset(Uploaded):
    """An uploaded data set."""

    format: str
    splits: dict[str, SplitInfo]
    classes: tuple[str, ...] | None = None


class JobState(Seen):
    """A job as it stood when it was asked for."""

    id: str
    status: Status
    done: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    cancel_requested: bool
    queue_position: int | None
    waiting_reason: str | None = None
    progress: Progress | None
    error: dict[str, Any] | None
    """A problem [RFC 9457]."""
    metrics: Metrics | None
    model: str
    dataset: str | None
    sweep: str | None = None
    spec: dict[str, Any]


class SweepJob(Seen):
    """One job of a sweep beside the others."""

    job: str
    varied: dict[str, Any]
    """What sets it apart: values by the path of their field."""
    status: Status
    share: float
    error: str | None
    after: State | None
    pareto: bool


class SweepState(Seen):
    """A sweep as it stood when it was asked for."""

    id: str
    name: str | None
    created_at: datetime
    expires_at: datetime | None = None
    done: bool
    counts: dict[Status, int]
    share: float
    before: State | None
    jobs: tuple[SweepJob, ...]


class Artifact(Seen):
    """A file of a job."""

    name: str
    bytes: int
    sha256: str
    media_type: str
    url: str


class UploadState(Seen):
    """A resumable upload as it stood when it was asked for."""

    id: str
    state: str
    done: bool
    offset: int
    model: str | None
    dataset: str | None
    error: dict[str, Any] | None


class Sent(BaseModel):
    """How much of a file has arrived."""

    name: str
    sent: int
    total: int
    """Bytes."""
