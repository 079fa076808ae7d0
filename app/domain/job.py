"""What a job is, and the orders and reports that pass between a worker and its child process."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from app.domain.base import Record
from app.domain.confinement import Confinement
from app.domain.dataset import DatasetInfo
from app.domain.model import ModelInfo
from app.domain.people import DEFAULT_OWNER
from app.domain.spec import PruningSpec

JobKind = Literal["prune", "plan", "analysis"]
"""`prune` is a job that users see; the others are quick questions to the engine."""


class Status(StrEnum):
    """A job is queued, then running, and ends in one of three ways."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to the job by itself."""
        return self in ENDED


ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


class Progress(Record):
    """How far a running job is."""

    phase: str
    share: float = Field(ge=0, le=1)
    """Of the whole job, estimated."""
    step: int | None = None
    steps: int | None = None
    """Cuts of the schedule."""
    epoch: int | None = None
    epochs: int | None = None
    """Epochs of the whole fine-tuning, over all steps."""
    batch_share: float | None = None
    """Of the current epoch."""
    metrics: dict[str, float | None] = {}
    """The latest loss and metrics of the training, and of the last epoch's validation."""
    eta_seconds: float | None = None
    """Estimated time left, from the pace so far."""


class Checkpoint(Record):
    """Where fine-tuning can go on after a crash: a file in the store."""

    key: str
    sha256: str
    bytes: int
    epoch: int


class Order(Record):
    """All that a child process is told: one line of JSON. Paths are inside its own folder."""

    job: str
    kind: JobKind
    attempt: int
    spec: PruningSpec
    model: ModelInfo
    model_path: str
    dataset: DatasetInfo | None = None
    dataset_path: str | None = None
    checkpoint_path: str | None = None
    out: str
    scratch: str
    confinement: Confinement = Confinement()
    """What the child has told of itself, and what its parent made of that."""


class Attempt(Record):
    """A claimed job: what the worker needs to carry it out, and the fencing token it holds."""

    job: str
    kind: JobKind
    fence: int
    spec: PruningSpec
    model_key: str
    model_sha256: str
    model: ModelInfo
    dataset_key: str | None
    dataset_sha256: str | None
    dataset: DatasetInfo | None
    checkpoint: Checkpoint | None
    time_limit_seconds: float
    seconds_used: float
    """Seconds that earlier attempts ran; the time limit is the job's, not the attempt's."""
    owner: str = DEFAULT_OWNER
    traceparent: str | None = None
    """Where the job's trace began [W3C Trace Context]."""


class ArtifactFile(Record):
    """One published file of a job."""

    name: str
    key: str
    bytes: int
    sha256: str
    media_type: str


MEDIA_TYPES: dict[str, str] = {
    "model.keras": "application/vnd.keras",
    "model.h5": "application/x-hdf5",
    "model.sparse.npz": "application/zip",
    "model.tflite": "application/vnd.tflite",
    "model_float16.tflite": "application/vnd.tflite",
    "model_sparse.tflite": "application/vnd.tflite",
    "model_dynamic_int8.tflite": "application/vnd.tflite",
    "model_int8.tflite": "application/vnd.tflite",
    "model.onnx": "application/x-onnx",
    "model_int8.onnx": "application/x-onnx",
    "model.saved_model.zip": "application/zip",
    "metrics.json": "application/json",
    "plots.svg": "image/svg+xml",
    "plots.png": "image/png",
    "report.html": "text/html; charset=utf-8",
    "analysis.html": "text/html; charset=utf-8",
    "log.txt": "text/plain; charset=utf-8",
}
"""Artifact names and what they are; a child can publish nothing else."""


class Event(Record):
    """Something that happened to a job, numbered from 1 without gaps."""

    id: int
    at: float
    """Seconds since 1970."""
    kind: str
    data: dict[str, Any]
