"""Events of a job: written with the change they tell of, numbered without gaps."""

from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.adapters.database import Database, EventRow, JobRow
from app.domain.job import Event

_EVENTS: Any = EventRow.__table__


def record(session: Session, job: str, kind: str, data: dict[str, Any]) -> None:
    """Append an event in the caller's transaction.

    The number comes from the job's row, whose lock serialises writers: a reader that has seen
    event n has seen all before it, also on PostgreSQL.
    """
    number = session.execute(
        update(JobRow)
        .where(JobRow.id == job)
        .values(last_event=JobRow.last_event + 1, updated_at=func.clock())
        .returning(JobRow.last_event)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    session.execute(
        insert(EventRow).values(job_id=job, id=number, at=func.clock(), kind=kind, data=data)
    )


def first(session: Session, job: str, at: float, kind: str) -> None:
    """Write event 1 of a job whose row, with `last_event` 1, is new in the caller's transaction.

    Nobody else can see that row yet, so there is no counter to raise and nobody to wait for.
    """
    session.execute(insert(_EVENTS).values(job_id=job, id=1, at=at, kind=kind, data={}))


def after(database: Database, job: str, last: int, limit: int = 500) -> tuple[Event, ...]:
    """Events with a number above `last`, oldest first."""
    with database.read() as session:
        rows = session.scalars(
            select(EventRow)
            .where(EventRow.job_id == job, EventRow.id > last)
            .order_by(EventRow.id)
            .limit(limit)
        ).all()
    return tuple(Event(id=row.id, at=row.at, kind=row.kind, data=row.data) for row in rows)
