"""What operators do to jobs, whoever owns them: look, put back, cancel; and sweep the store.

All of it is conditional on the row, as everything is, and written to the audit log.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.adapters.database import Database, JobRow
from app.domain.base import Record
from app.domain.errors import NotFound, WrongState
from app.domain.job import Status
from app.domain.people import Caller
from app.domain.ports import Store
from app.services import audit, events, tallies
from app.services.collecting import Collector
from app.services.endings import moved
from app.services.jobs import stop
from app.settings import Settings

SILENT_SECONDS = 900.0
"""A running job tells its progress twice a second; one that is silent for so long hangs."""
WAITING_SECONDS = 60.0
"""A queued job is announced at once, or by the reaper a moment later."""
REASON = "An operator put the job back into the queue."


class Watched(Record):
    """A job that has not ended."""

    id: str
    kind: str
    owner: str
    status: Status
    age_seconds: float
    """Since it was submitted."""
    silent_seconds: float
    """Since anything was heard of it."""
    worker: str | None
    attempt: int
    attempts_allowed: int
    stuck: str | None
    """Why it looks as if nothing would happen to it; None for one that goes its way."""


def unfinished(database: Database, stuck_only: bool = False, limit: int = 100) -> list[Watched]:
    """Jobs that have not ended, the oldest first."""
    now: Any = func.clock()
    query = (
        select(JobRow, now)
        .where(JobRow.state.in_((Status.QUEUED, Status.RUNNING)))
        .order_by(JobRow.created_at)
        .limit(limit)
    )
    if stuck_only:
        query = query.where(_stuck())
    with database.read() as session:
        return [_watched(row, at) for row, at in session.execute(query)]


def _stuck() -> Any:
    """The same as `_why_stuck`, for the database."""
    return or_(
        and_(
            JobRow.state == Status.RUNNING,
            or_(
                JobRow.lease_expires_at < func.clock(),
                JobRow.updated_at < func.clock() - SILENT_SECONDS,
            ),
        ),
        and_(
            JobRow.state == Status.QUEUED,
            JobRow.dispatched_at.is_(None),
            JobRow.updated_at < func.clock() - WAITING_SECONDS,
        ),
    )


def _why_stuck(row: JobRow, now: float) -> str | None:
    silent = now - row.updated_at
    if row.state == Status.QUEUED:
        if row.dispatched_at is None and silent > WAITING_SECONDS:
            return "nobody announces it: does a reaper run, and does the broker answer?"
        return None
    if row.lease_expires_at is not None and row.lease_expires_at < now:
        return "its worker's lease ran out, and no reaper has seen it"
    if silent > SILENT_SECONDS:
        return f"its worker lives and has told nothing for {silent / 60:.0f} minutes"
    return None


def _watched(row: JobRow, now: float) -> Watched:
    return Watched(
        id=row.id,
        kind=row.kind,
        owner=row.owner,
        status=Status(row.state),
        age_seconds=now - row.created_at,
        silent_seconds=now - row.updated_at,
        worker=row.worker if row.state == Status.RUNNING else None,
        attempt=row.fence,
        attempts_allowed=row.attempts_allowed,
        stuck=_why_stuck(row, now),
    )


def requeue(database: Database, settings: Settings, job: str) -> str:
    """Put a job back into the queue, whatever it does; the reaper announces it. What was done.

    A running job loses no attempt, and its worker, if it lives, stops as it finds that the job is
    no longer its own. An ended one starts again, as after a retry. Raises `NotFound`, and
    `WrongState` for one that has succeeded.
    """
    with database.write() as session:
        row = _found(session, job)
        was, attempt = row.state, row.fence
        if was == Status.SUCCEEDED:
            raise WrongState(f"Job {job} has succeeded; submit its spec again to run it again.")
        if was == Status.RUNNING and row.cancel_requested:
            stopped = f"Job {job} was being cancelled, so it is cancelled now."
            _end_cancelled(session, row)
        else:
            stopped = f"Job {job} was {was}, and is queued."
            _queue(session, row, settings)
        audit.record(
            session, Caller(owner=row.owner), "admin.requeue", job, was=was, attempt=attempt
        )
    return stopped


def _queue(session: Session, row: JobRow, settings: Settings) -> None:
    values: dict[str, Any] = {"state": Status.QUEUED, "dispatched_at": None}
    if row.state == Status.RUNNING:
        values |= _freed(row) | {"attempts_allowed": JobRow.attempts_allowed + 1}
        tallies.count(session, tallies.HANDED_BACK, row.kind)
    elif row.state != Status.QUEUED:
        values |= {"error": None, "finished_at": None, "progress": None, "seconds_used": 0.0}
        values |= {
            "cancel_requested": False,
            "attempts_allowed": row.fence + settings.max_attempts,
        }
    _change(session, row, values)
    events.record(session, row.id, "queued", {"reason": REASON})


def _end_cancelled(session: Session, row: JobRow) -> None:
    values = {"state": Status.CANCELLED, "finished_at": func.clock()} | _freed(row)
    _change(session, row, values)
    reason = {"reason": "An operator ended it."}
    moved(session, row.id, row.kind, str(Status.CANCELLED), reason)


def _freed(row: JobRow) -> dict[str, Any]:
    """What a running job's row loses: from now on its worker matches no row."""
    began = row.attempt_started_at
    spent = 0.0 if began is None else func.clock() - began
    return {"lease_expires_at": None, "seconds_used": JobRow.seconds_used + spent}


def _change(session: Session, row: JobRow, values: dict[str, Any]) -> None:
    """Of a row that is locked, and still as it was read."""
    session.execute(
        update(JobRow)
        .where(JobRow.id == row.id, JobRow.state == row.state, JobRow.fence == row.fence)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def cancel(database: Database, job: str) -> str:
    """Stop a job of anybody's; what was done. Raises `NotFound`, `WrongState`."""
    with database.write() as session:
        row = _found(session, job)
        was = row.state
        if was in (Status.SUCCEEDED, Status.FAILED):
            raise WrongState(f"Job {job} has already {was}.")
        stop(session, row)
        audit.record(session, Caller(owner=row.owner), "admin.cancel", job, was=was)
    if was == Status.RUNNING:
        return f"Job {job} is asked to stop; its worker ends it within a second or so."
    return f"Job {job} is cancelled."


def _found(session: Session, job: str) -> JobRow:
    row = session.get(JobRow, job, with_for_update=True)
    if row is None:
        raise NotFound(f"There is no job {job!r}. `secateur admin jobs` lists those not ended.")
    return row


def hand_back_all(database: Database) -> int:
    """Queue again what was running as a backup was taken, without a loss of attempts: how many."""
    with database.write() as session:
        rows = session.scalars(select(JobRow).where(JobRow.state == Status.RUNNING)).all()
        for row in rows:
            if row.cancel_requested:
                _end_cancelled(session, row)
                continue
            _change(
                session,
                row,
                {
                    "state": Status.QUEUED,
                    "dispatched_at": None,
                    "lease_expires_at": None,
                    "attempts_allowed": JobRow.attempts_allowed + 1,
                },
            )
            events.record(session, row.id, "queued", {"reason": "Restored from a backup."})
    return len(rows)


def garbage(database: Database, store: Store, settings: Settings) -> Iterator[str]:
    """Keys of files that no row refers to, and that are old enough to be deleted."""
    return Collector(database, store, settings).garbage()


def collect(database: Database, store: Store, settings: Settings) -> list[str]:
    """Delete them; which were deleted."""
    grace = settings.blob_grace_seconds
    gone = [key for key in garbage(database, store, settings) if store.delete_old(key, grace)]
    if gone:
        with database.write() as session:
            audit.record(session, Caller(), "admin.gc", "store", deleted=len(gone))
    return gone
