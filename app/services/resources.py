"""What the API shows of each resource."""

from datetime import UTC, datetime
from typing import Any, cast

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.adapters.database import DatasetRow, JobRow, ModelRow, UploadRow
from app.domain.base import Record
from app.domain.dataset import ALL, DatasetInfo
from app.domain.job import Progress, Status
from app.domain.metrics import Metrics
from app.domain.model import ModelInfo
from app.domain.queues import QueueName
from app.domain.spec import PruningSpec
from app.domain.upload import UploadKind, UploadState


def moment(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a moment in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def expiry(since: float | None, days: float) -> datetime | None:
    """When what is kept for so many days goes; None where it is kept for good."""
    return moment(since + days * 86_400) if since is not None and days else None


class ModelResource(ModelInfo):
    """An uploaded model."""

    id: str = Field(examples=["mdl_example"])
    created_at: datetime
    expires_at: datetime | None = None
    """It is deleted then, or once no job needs it; null where it is kept."""
    filename: str
    bytes: int
    sha256: str


class DatasetResource(DatasetInfo):
    """An uploaded data set."""

    unsplit: bool = False
    """Stored as one: each job holds out `test_share` and `validation_share` of it by its seed."""

    id: str = Field(examples=["dts_example"])
    created_at: datetime
    expires_at: datetime | None = None
    """It is deleted then, or once no job needs it; null where it is kept."""
    filename: str
    bytes: int
    sha256: str


class Problem(Record):
    """An error as RFC 9457 describes it."""

    type: str = Field(examples=["/problems/invalid-spec"])
    """Stable address of the kind of problem; it answers with a description."""
    title: str
    status: int | None = None
    detail: str
    """What was expected, what came, what to do."""
    instance: str | None = None
    field: str | None = None
    """Path of the field at fault, for example `prune.target.remove`."""
    fault: str = Field(examples=["client"])
    """`client` or `service`."""
    retryable: bool
    """Whether the same request can succeed later."""
    errors: list[dict[str, str]] | None = None
    """All findings, where there are several."""

    @model_serializer(mode="wrap")
    def _without_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # The fields': of what a serializer gives Pydantic knows no more than that it is an object.
        fields = {name: value for name, value in schema.items() if name != "serialization"}
        return handler(cast(CoreSchema, fields))


class JobResource(Record):
    """A job and where it stands."""

    id: str = Field(examples=["job_example"])
    status: Status
    done: bool
    """True when nothing more will happen by itself, however the job ended."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = None
    """The job and its files are deleted then; null where they are kept, and before the end."""
    attempt: int
    """1 for the first attempt; more when a worker was lost on the way."""
    cancel_requested: bool
    queue_position: int | None
    """Jobs that are expected to start before this one; null when not queued."""
    queue: QueueName
    """Where it waits: by what it needs of a worker."""
    waiting_reason: str | None = None
    """Why a queued job will not start soon: no worker that is alive can take it."""
    progress: Progress | None
    error: Problem | None
    metrics: Metrics | None
    """The figures, once the job has succeeded; the same as the artifact metrics.json."""
    model: str
    dataset: str | None
    sweep: str | None = None
    """The sweep that the job belongs to."""
    spec: PruningSpec
    links: dict[str, str]


class UploadResource(Record):
    """A resumable upload and where it stands."""

    id: str
    kind: UploadKind
    filename: str
    state: UploadState
    done: bool
    """True when nothing more will happen by itself: it is ready or refused."""
    length: int
    """Bytes that were announced."""
    offset: int
    """Bytes that are there."""
    created_at: datetime
    expires_at: datetime
    """It is forgotten then, unless more comes; what it has become stays."""
    model: str | None
    """Id of the model that it has become."""
    dataset: str | None
    """Id of the data set that it has become."""
    error: Problem | None
    """Why it was refused."""


def upload_resource(row: UploadRow) -> UploadResource:
    """An upload's row as the API shows it."""
    state = UploadState(row.state)
    return UploadResource.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "filename": row.filename,
            "state": state,
            "done": state in (UploadState.READY, UploadState.REFUSED),
            "length": row.length,
            "offset": row.received,
            "created_at": moment(row.created_at),
            "expires_at": moment(row.expires_at),
            "model": row.resource if row.kind == "model" else None,
            "dataset": row.resource if row.kind == "dataset" else None,
            "error": row.error,
        }
    )


def model_resource(row: ModelRow, kept_days: float) -> ModelResource:
    """A model's row as the API shows it."""
    return ModelResource.model_validate(_upload(row, kept_days) | row.info)


def dataset_resource(row: DatasetRow, kept_days: float) -> DatasetResource:
    """A data set's row as the API shows it."""
    splits = row.info["splits"]
    unsplit = ALL in splits
    shown = {"train": splits[ALL]} if unsplit else splits
    return DatasetResource.model_validate(
        _upload(row, kept_days) | row.info | {"splits": shown, "unsplit": unsplit}
    )


def _upload(row: ModelRow | DatasetRow, kept_days: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": moment(row.created_at),
        "expires_at": expiry(row.created_at, kept_days),
        "filename": row.filename,
        "bytes": row.bytes,
        "sha256": row.sha256,
    }


def as_json(resource: Record) -> str:
    """As the API answers it; given to FastAPI as an object it would be checked once more."""
    return resource.model_dump_json(by_alias=True)


def job_resource(
    row: JobRow,
    kept_days: float,
    queue_position: int | None = None,
    waiting_reason: str | None = None,
) -> JobResource:
    """A job's row as the API shows it."""
    status = Status(row.state)
    base = f"/v1/jobs/{row.id}"
    return JobResource.model_validate(
        {
            "id": row.id,
            "status": status,
            "done": status.done,
            "created_at": moment(row.created_at),
            "started_at": moment(row.started_at),
            "finished_at": moment(row.finished_at),
            "expires_at": expiry(row.finished_at, kept_days),
            "attempt": row.fence,
            "cancel_requested": row.cancel_requested,
            "queue_position": queue_position,
            "queue": row.queue,
            "waiting_reason": waiting_reason,
            "progress": row.progress,
            "error": row.error,
            "metrics": row.result if row.kind == "prune" else None,
            "model": row.model_id,
            "dataset": row.dataset_id,
            "sweep": row.sweep_id,
            "spec": row.spec,
            "links": {
                "self": base,
                "events": f"{base}/events",
                "artifacts": f"{base}/artifacts",
            },
        }
    )
