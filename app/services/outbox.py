"""What webhooks are told: rows, written in the transaction of what they tell of.

So there is no job that has ended without its messages, and no message of a job that has not. They
are sent later, by `app.services.sender`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, DeliveryRow, JobRow, SweepRow, WebhookRow
from app.domain.base import Record
from app.domain.ids import new_id
from app.domain.job import ENDED, Status
from app.domain.webhook import PING, DeliveryStatus
from app.services.resources import moment

Data = TypeVar("Data", bound=Record)


class JobEnded(Record):
    """A job that has ended; `GET` its `links.self` for the figures."""

    id: str
    status: Status
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime
    model: str
    dataset: str | None
    sweep: str | None
    error: dict[str, Any] | None
    """A problem as `GET /v1/jobs/{id}` shows it [RFC 9457], where the job has failed."""
    verdict: tuple[str, ...]
    """What was gained, in sentences, where the job has succeeded."""
    artifacts: tuple[str, ...]
    """Names of the files that there are."""
    links: dict[str, str]
    """Paths at the service."""


class SweepEnded(Record):
    """A sweep of which no job goes on any more. It is told again when some were retried."""

    id: str
    name: str | None
    created_at: datetime
    counts: dict[Status, int]
    """Jobs by how they ended."""
    links: dict[str, str]


class Pinged(Record):
    """Nothing happened: somebody wants to see a delivery arrive."""

    webhook: str


class Message(Record, Generic[Data]):
    """The body of a delivery. [Standard Webhooks, "Payload structure"]"""

    type: str
    timestamp: datetime
    """When it happened."""
    data: Data


def job_ended(session: Session, job: str) -> None:
    """Write the messages of a job that has just ended, in the caller's transaction."""
    row = session.execute(
        select(JobRow.owner, JobRow.kind, JobRow.state, JobRow.sweep_id).where(JobRow.id == job)
    ).one()
    if row.kind != "prune":
        return
    query = select(WebhookRow).where(WebhookRow.owner == row.owner, WebhookRow.enabled)
    hooks = session.scalars(query.order_by(WebhookRow.id)).all()
    event = f"job.{row.state}"
    if told := _subscribed(hooks, event):
        _write(session, told, event, job, _job(session, job))
    if row.sweep_id and (told := _subscribed(hooks, "sweep.completed")):
        _sweep_may_have_ended(session, told, row.sweep_id)


def ping(session: Session, hook: WebhookRow, id_: str = "") -> DeliveryRow:
    """Write a message that tells of nothing."""
    return _write(session, [hook], PING, None, Pinged(webhook=hook.id), id_)[0]


def _subscribed(hooks: Sequence[WebhookRow], event: str) -> list[WebhookRow]:
    return [hook for hook in hooks if event in hook.events.split()]


def _sweep_may_have_ended(session: Session, hooks: list[WebhookRow], id_: str) -> None:
    # Two jobs that end at once would each see the other one going on, were it not for this lock.
    sweep = session.get(SweepRow, id_, with_for_update=True)
    if sweep is None:
        return
    found = session.execute(
        select(JobRow.state, func.count()).where(JobRow.sweep_id == id_).group_by(JobRow.state)
    )
    counts = {Status(state): count for state, count in found}
    if counts.keys() <= ENDED:
        _write(session, hooks, "sweep.completed", id_, _sweep(sweep, counts))


def _job(session: Session, id_: str) -> JobEnded:
    columns = ("id", "fence", "created_at", "started_at", "finished_at", "model_id", "dataset_id")
    row = session.execute(
        select(
            *(getattr(JobRow, name) for name in (*columns, "sweep_id", "state", "error")),
            JobRow.result["verdict"].label("verdict"),
        ).where(JobRow.id == id_)
    ).one()
    files = session.scalars(
        select(ArtifactRow.name).where(ArtifactRow.job_id == id_).order_by(ArtifactRow.name)
    )
    base = f"/v1/jobs/{id_}"
    return JobEnded.model_validate(
        {
            "id": row.id,
            "status": row.state,
            "attempt": row.fence,
            "created_at": moment(row.created_at),
            "started_at": moment(row.started_at),
            "finished_at": moment(row.finished_at),
            "model": row.model_id,
            "dataset": row.dataset_id,
            "sweep": row.sweep_id,
            "error": row.error,
            "verdict": row.verdict or (),
            "artifacts": tuple(files),
            "links": {"self": base, "artifacts": f"{base}/artifacts"},
        }
    )


def _sweep(row: SweepRow, counts: dict[Status, int]) -> SweepEnded:
    base = f"/v1/sweeps/{row.id}"
    return SweepEnded.model_validate(
        {
            "id": row.id,
            "name": row.spec["name"],
            "created_at": moment(row.created_at),
            "counts": counts,
            "links": {"self": base, "table": f"{base}/table.csv"},
        }
    )


def _write(
    session: Session,
    hooks: Sequence[WebhookRow],
    event: str,
    subject: str | None,
    data: Record,
    id_: str = "",
) -> list[DeliveryRow]:
    now = session.scalar(select(func.clock()))
    assert now is not None
    body: dict[str, Any] = {"type": event, "timestamp": moment(now), "data": data}
    text = Message[Any].model_validate(body).model_dump_json()
    rows = [
        DeliveryRow(
            id=id_ or new_id("whd"),
            webhook_id=hook.id,
            event=event,
            subject=subject,
            body=text,
            created_at=now,
            state=DeliveryStatus.PENDING,
            attempts=0,
            round_attempts=0,
            next_at=now,
            log=[],
        )
        for hook in hooks
    ]
    session.add_all(rows)
    session.flush()
    return rows
