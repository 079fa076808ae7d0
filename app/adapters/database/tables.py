"""The tables. Times are seconds since 1970 by the database's own clock."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from app.domain.people import DEFAULT_OWNER

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """Base of all rows."""

    type_annotation_map = {dict[str, Any]: Json, float: Double, int: BigInteger}


class _Owned:
    """Belongs to somebody; nobody else sees it."""

    @declared_attr
    @classmethod
    def owner(cls) -> Mapped[str]:
        """Name of the owner."""
        return mapped_column(String(32), default=DEFAULT_OWNER, server_default=DEFAULT_OWNER)


class _Upload(_Owned):
    """Columns of what users upload; the content lies in the store under `key`."""

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index, ...]:
        table = cls.__tablename__  # type: ignore[attr-defined]
        return (Index(f"ix_{table}_owner_id", "owner", "id"),)

    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    created_at: Mapped[float]
    filename: Mapped[str] = mapped_column(String(255))
    key: Mapped[str] = mapped_column(String(255), index=True)
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    info: Mapped[dict[str, Any]]


class ModelRow(_Upload, Base):
    """An uploaded model; `info` is an `app.domain.model.ModelInfo`."""

    __tablename__ = "models"


class DatasetRow(_Upload, Base):
    """An uploaded data set; `info` is an `app.domain.dataset.DatasetInfo`."""

    __tablename__ = "datasets"


class UploadRow(_Owned, Base):
    """A resumable upload; its bytes lie in the store under `uploads/<id>/`."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_owner_id", "owner", "id"),
        Index("ix_uploads_state", "state"),
    )
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(16))
    """Id of the API key that began it."""
    kind: Mapped[str] = mapped_column(String(16))
    filename: Mapped[str] = mapped_column(String(255))
    options: Mapped[dict[str, Any]]
    """An `app.domain.dataset.DatasetOptions`; empty for models."""
    given: Mapped[str] = mapped_column(Text)
    """The Upload-Metadata header as it came."""
    state: Mapped[str] = mapped_column(String(16))
    length: Mapped[int]
    received: Mapped[int]
    """Bytes that are surely in the store; there may be more."""
    fence: Mapped[int]
    """Raised by whoever goes on with it: the last one counts."""
    created_at: Mapped[float]
    expires_at: Mapped[float]
    lease_expires_at: Mapped[float | None]
    """Until then a process is reading it."""
    readings: Mapped[int]
    """How often reading it was begun."""
    error: Mapped[dict[str, Any] | None]
    resource: Mapped[str | None] = mapped_column(String(48))
    """Id of the model or data set that it became."""


class JobRow(_Owned, Base):
    """A job: the truth about it. `fence` counts attempts and is the fencing token of the last."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_state_lease", "state", "lease_expires_at"),
        Index("ix_jobs_kind_id", "kind", "id"),
        Index("ix_jobs_owner_kind_id", "owner", "kind", "id"),
        Index("ix_jobs_owner_state", "owner", "state"),
        # What the claim, the reaper and the figures of the queues ask for, without the rows.
        Index(
            "ix_jobs_line",
            *("state", "queue", "owner", "rank", "id"),
            *("priority", "queued_at", "dispatched_at", "memory_bytes"),
        ),
        Index("ix_jobs_served", "queue", "owner", "attempt_started_at"),
    )
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    updated_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    spec: Mapped[dict[str, Any]]
    model_id: Mapped[str] = mapped_column(String(48), index=True)
    dataset_id: Mapped[str | None] = mapped_column(String(48), index=True)
    fence: Mapped[int] = mapped_column(default=0)
    attempts_allowed: Mapped[int]
    lease_expires_at: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(255))
    dispatched_at: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    time_limit_seconds: Mapped[float]
    seconds_used: Mapped[float] = mapped_column(default=0.0)
    attempt_started_at: Mapped[float | None]
    progress: Mapped[dict[str, Any] | None]
    checkpoint: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    last_event: Mapped[int] = mapped_column(default=0)
    queue: Mapped[str] = mapped_column(String(16), default="jobs", server_default="jobs")
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    memory_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """What its process must be allowed; 0: whatever a worker allows."""
    queued_at: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """When it was submitted, or retried last."""
    rank: Mapped[float] = mapped_column(default=0.0, server_default="0")
    """Place among the owner's own waiting jobs, lower first; see `app.domain.queues`."""
    sweep_id: Mapped[str | None] = mapped_column(String(48), index=True)
    sweep_index: Mapped[int | None]
    """Place in its sweep, from 0."""
    varied: Mapped[dict[str, Any] | None]
    """What sets the job apart in its sweep."""
    traceparent: Mapped[str | None] = mapped_column(String(64))
    """Where the job's trace began [W3C Trace Context]; empty where nobody traces."""


class SweepRow(_Owned, Base):
    """A sweep; its jobs name it."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_owner_id", "owner", "id"),)
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    created_at: Mapped[float]
    spec: Mapped[dict[str, Any]]


class WorkerRow(Base):
    """A process that runs jobs; `seen_at` is renewed while it lives."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    seen_at: Mapped[float]
    confinement: Mapped[dict[str, Any]]
    """An `app.domain.confinement.Confinement`: what it can confine jobs by."""
    queues: Mapped[str] = mapped_column(
        String(64), default="jobs quick", server_default="jobs quick"
    )
    """What it serves, separated by spaces."""
    memory_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """What it allows a job's process."""


class EventRow(Base):
    """What happened to a job; `id` counts from 1 within the job, without gaps."""

    __tablename__ = "events"
    job_id: Mapped[str] = mapped_column(
        String(48), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]


class ArtifactRow(Base):
    """A published file of a job."""

    __tablename__ = "artifacts"
    job_id: Mapped[str] = mapped_column(
        String(48), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(64))


class IdempotencyRow(Base):
    """The first answer given under an Idempotency-Key."""

    __tablename__ = "idempotency_keys"
    scope: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    created_at: Mapped[float]
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(255))
    body: Mapped[dict[str, Any]]


class KeyRow(Base):
    """An API key, without its secret."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    owner: Mapped[str] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(String(100))
    """For people: where the key is used."""
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(64))
    """Separated by spaces."""
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]
    """To the minute."""


class AuditRow(Base):
    """Who did what. Rows are added and, a long while later, deleted; never changed."""

    __tablename__ = "audit"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    at: Mapped[float] = mapped_column(index=True)
    owner: Mapped[str] = mapped_column(String(32))
    key: Mapped[str | None] = mapped_column(String(16))
    """Id of the key that was shown, where one was asked for."""
    action: Mapped[str] = mapped_column(String(32))
    target: Mapped[str] = mapped_column(String(48))
    """Id of what was changed."""
    data: Mapped[dict[str, Any]]


class CounterRow(Base):
    """What has been counted of all jobs ever, also of those that are deleted."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    labels: Mapped[str] = mapped_column(String(255), primary_key=True)
    """A JSON object with sorted keys."""
    value: Mapped[float]


class WebhookRow(_Owned, Base):
    """A receiver of what happens to an owner's jobs."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_owner_id", "owner", "id"),)
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    created_at: Mapped[float]
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[str] = mapped_column(String(255))
    """Separated by spaces."""
    enabled: Mapped[bool]
    secret: Mapped[str] = mapped_column(String(64))
    """As it is: who signs must know it."""
    old_secret: Mapped[str | None] = mapped_column(String(64))
    old_secret_until: Mapped[float | None]
    failing_since: Mapped[float | None]
    """The first failed attempt after which nothing has arrived."""
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    """Where the service disabled it."""


class DeliveryRow(Base):
    """A message to a webhook, and its fate. `attempts` is the fencing token of the last one."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_state_next", "state", "next_at"),
        Index("ix_deliveries_webhook_id", "webhook_id", "id"),
    )
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(
        String(48), ForeignKey("webhooks.id", ondelete="CASCADE")
    )
    event: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str | None] = mapped_column(String(48))
    """Id of the job or sweep that it tells of."""
    body: Mapped[str] = mapped_column(Text)
    """Kept as it was written: a signature is over bytes."""
    created_at: Mapped[float] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    round_attempts: Mapped[int] = mapped_column(default=0)
    """Since it was written, or since somebody asked to begin anew: how far the delays have come."""
    next_at: Mapped[float | None]
    lease_expires_at: Mapped[float | None]
    """A sender that has not reported by then is gone."""
    ended_at: Mapped[float | None]
    log: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    """The latest attempts, each an `app.domain.webhook.SendAttempt`."""
