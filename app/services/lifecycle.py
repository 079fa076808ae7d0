"""The life of a job in the database: claim, keep, finish, give up.

queued ──claim──> running ──finish──> succeeded | failed | cancelled
   ▲                 │
   └──lease lost─────┘  (or failed, when no attempt is left)

Every transition is one conditional statement in one transaction with its event. Each claim
raises the row's `fence`; whoever writes for an attempt names the fence it was given, and zero
matching rows means that the job belongs to somebody else by now.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, or_, select, true, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, Database, DatasetRow, JobRow, ModelRow
from app.domain.dataset import DatasetInfo
from app.domain.errors import AttemptsExhausted, InternalError
from app.domain.job import ENDED, ArtifactFile, Attempt, Checkpoint, Progress, Status
from app.domain.model import ModelInfo
from app.domain.ports import content_sha256
from app.domain.spec import PruningSpec
from app.services import events, outbox, quotas

DONE = Progress(phase="done", share=1.0, eta_seconds=0.0).model_dump(mode="json")


class LeaseLost(Exception):
    """The job was given to another worker, or ended: stop at once and publish nothing."""


def _expired() -> Any:
    return and_(JobRow.state == Status.RUNNING, JobRow.lease_expires_at < func.clock())


def _mine(attempt: Attempt) -> Any:
    return and_(
        JobRow.id == attempt.job,
        JobRow.fence == attempt.fence,
        JobRow.state == Status.RUNNING,
    )


def _seconds_of_lost_attempt() -> Any:
    """Seconds that a lost attempt used: from its start to the end of its lease."""
    return case(
        (
            JobRow.state == Status.RUNNING,
            JobRow.lease_expires_at - JobRow.attempt_started_at,
        ),
        else_=0.0,
    )


def _changed(session: Session, statement: Any) -> bool:
    result = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)


def claim(
    database: Database,
    job: str,
    worker: str,
    lease_seconds: float,
    most_running: int | None = None,
) -> Attempt | None:
    """Take a job that is queued, or whose lease ran out; None when there is nothing to take.

    With `most_running`, a job whose owner has that many running stays in the queue.
    """
    with database.write() as session:
        if most_running is not None and not _may_run(session, job, most_running):
            return None
        taken = _changed(
            session,
            update(JobRow)
            .where(
                JobRow.id == job,
                JobRow.cancel_requested.is_(False),
                JobRow.fence < JobRow.attempts_allowed,
                or_(JobRow.state == Status.QUEUED, _expired()),
            )
            .values(
                state=Status.RUNNING,
                fence=JobRow.fence + 1,
                seconds_used=JobRow.seconds_used + _seconds_of_lost_attempt(),
                worker=worker,
                lease_expires_at=func.clock() + lease_seconds,
                attempt_started_at=func.clock(),
                started_at=func.coalesce(JobRow.started_at, func.clock()),
                error=None,
            ),
        )
        if not taken:
            return None
        row = session.get_one(JobRow, job)
        events.record(session, job, "running", {"attempt": row.fence})
        return _attempt(session, row)


def _may_run(session: Session, job: str, most_running: int) -> bool:
    # The row first, then the owner's lock, as in a retry: the other way round they could wait for
    # each other.
    row = session.get(JobRow, job, with_for_update=True)
    if row is None or row.kind != "prune":
        return True
    quotas.lock(session, row.owner)
    running = session.scalar(
        select(func.count())
        .select_from(JobRow)
        .where(
            JobRow.owner == row.owner,
            JobRow.kind == "prune",
            JobRow.state == Status.RUNNING,
            JobRow.id != job,
        )
    )
    session.expire(row)
    return (running or 0) < most_running


def _attempt(session: Session, row: JobRow) -> Attempt:
    model = session.get(ModelRow, row.model_id)
    dataset = session.get(DatasetRow, row.dataset_id) if row.dataset_id else None
    if model is None or (row.dataset_id and dataset is None):
        # Deleting what an unfinished job needs is refused, so this is a defect.
        raise InternalError(f"Job {row.id} refers to a model or data set that is not there.")
    return Attempt.model_validate(
        {
            "job": row.id,
            "kind": row.kind,
            "fence": row.fence,
            "spec": PruningSpec.model_validate(row.spec),
            "model_key": model.key,
            "model_sha256": content_sha256(model.key),
            "model": ModelInfo.model_validate(model.info),
            "dataset_key": dataset.key if dataset else None,
            "dataset_sha256": dataset.sha256 if dataset else None,
            "dataset": DatasetInfo.model_validate(dataset.info) if dataset else None,
            "checkpoint": Checkpoint.model_validate(row.checkpoint) if row.checkpoint else None,
            "time_limit_seconds": row.time_limit_seconds,
            "seconds_used": row.seconds_used,
        }
    )


def heartbeat(database: Database, attempt: Attempt, lease_seconds: float) -> bool:
    """Renew the lease; True when the user asked to cancel. Raises `LeaseLost`."""
    with database.write() as session:
        answer = session.execute(
            update(JobRow)
            .where(_mine(attempt))
            .values(lease_expires_at=func.clock() + lease_seconds)
            .returning(JobRow.cancel_requested)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
    if answer is None:
        raise LeaseLost(attempt.job)
    return bool(answer)


def report(
    database: Database,
    attempt: Attempt,
    progress: Progress | None,
    happened: Sequence[tuple[str, dict[str, Any]]] = (),
) -> None:
    """Write progress and events of an attempt. Raises `LeaseLost`."""
    values: dict[str, Any] = {"updated_at": func.clock()}
    if progress is not None:
        values["progress"] = progress.model_dump(mode="json")
    with database.write() as session:
        if not _changed(session, update(JobRow).where(_mine(attempt)).values(**values)):
            raise LeaseLost(attempt.job)
        for kind, data in happened:
            events.record(session, attempt.job, kind, data)


def keep_checkpoint(database: Database, attempt: Attempt, checkpoint: Checkpoint) -> None:
    """Make a stored checkpoint the one to resume from. Raises `LeaseLost`."""
    with database.write() as session:
        if not _changed(
            session,
            update(JobRow).where(_mine(attempt)).values(checkpoint=checkpoint.model_dump()),
        ):
            raise LeaseLost(attempt.job)
        events.record(session, attempt.job, "checkpoint", {"epoch": checkpoint.epoch})


def finish(
    database: Database,
    attempt: Attempt,
    status: Status,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    artifacts: Sequence[ArtifactFile] = (),
) -> None:
    """End the job and publish its artifacts in one compare-and-set. Raises `LeaseLost`."""
    with database.write() as session:
        if not _changed(
            session,
            update(JobRow)
            .where(_mine(attempt))
            .values(
                state=status,
                result=result,
                error=error,
                finished_at=func.clock(),
                lease_expires_at=None,
                seconds_used=JobRow.seconds_used + (func.clock() - JobRow.attempt_started_at),
                checkpoint=None if status is Status.SUCCEEDED else JobRow.checkpoint,
                progress=DONE if status is Status.SUCCEEDED else JobRow.progress,
            ),
        ):
            raise LeaseLost(attempt.job)
        session.execute(delete(ArtifactRow).where(ArtifactRow.job_id == attempt.job))
        for file in artifacts:
            session.execute(insert(ArtifactRow).values(job_id=attempt.job, **file.model_dump()))
        data: dict[str, Any] = {"artifacts": [file.name for file in artifacts]}
        if error is not None:
            data["error"] = error
        events.record(session, attempt.job, str(status), data)
        outbox.job_ended(session, attempt.job)


def hand_back(database: Database, attempt: Attempt, reason: str) -> None:
    """Queue the job again without using up one of its attempts: the worker shuts down.

    A job whose user has asked to cancel it is cancelled: no worker would claim it again.
    """
    with database.write() as session:
        state = session.execute(
            update(JobRow)
            .where(_mine(attempt))
            .values(
                state=case((JobRow.cancel_requested, Status.CANCELLED), else_=Status.QUEUED),
                finished_at=case((JobRow.cancel_requested, func.clock()), else_=None),
                lease_expires_at=None,
                dispatched_at=None,
                attempts_allowed=JobRow.attempts_allowed + 1,
                seconds_used=JobRow.seconds_used + (func.clock() - JobRow.attempt_started_at),
            )
            .returning(JobRow.state)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if state is not None:
            events.record(session, attempt.job, state, {"reason": reason})
            if state in ENDED:
                outbox.job_ended(session, attempt.job)


def reap(database: Database) -> tuple[str, ...]:
    """Queue again, or end, the jobs whose lease ran out; returns the jobs that changed."""
    with database.read() as session:
        lost = session.scalars(select(JobRow.id).where(_expired())).all()
    return tuple(job for job in lost if _reap_one(database, job))


def _reap_one(database: Database, job: str) -> bool:
    with database.write() as session:
        # The condition is repeated under the write lock: the worker may have come back.
        row = session.scalars(
            select(JobRow).where(JobRow.id == job, _expired()).with_for_update()
        ).one_or_none()
        if row is None:
            return False
        used = row.seconds_used + (row.lease_expires_at or 0.0) - (row.attempt_started_at or 0.0)
        values: dict[str, Any] = {"lease_expires_at": None, "seconds_used": used}
        reason: dict[str, Any] = {
            "reason": f"Worker {row.worker} was lost.",
            "attempt": row.fence,
        }
        if row.cancel_requested:
            values |= {"state": Status.CANCELLED, "finished_at": func.clock()}
        elif row.fence >= row.attempts_allowed:
            error = AttemptsExhausted(
                f"The worker was lost in each of {row.fence} attempts, the last time in phase "
                f"{(row.progress or {}).get('phase', 'loading')}. The model may need more memory "
                "than the worker's machine has; retry the job when that has changed."
            ).as_problem()
            values |= {
                "state": Status.FAILED,
                "error": error,
                "finished_at": func.clock(),
            }
            reason["error"] = error
        else:
            values |= {"state": Status.QUEUED, "dispatched_at": None}
        session.execute(
            update(JobRow)
            .where(JobRow.id == job)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
        events.record(session, job, str(values["state"]), reason)
        if values["state"] in ENDED:
            outbox.job_ended(session, job)
    return True


def undispatched(
    database: Database,
    kinds: Collection[str],
    forgotten_after: float,
    most_running: int | None = None,
) -> tuple[str, ...]:
    """Queued jobs never announced, or announced longer ago than `forgotten_after` seconds.

    With `most_running`, without those of owners who have that many running: no worker would take
    them.
    """
    may_run: Any = true()
    if most_running is not None:
        full = (
            select(JobRow.owner)
            .where(JobRow.kind == "prune", JobRow.state == Status.RUNNING)
            .group_by(JobRow.owner)
            .having(func.count() >= most_running)
        )
        may_run = or_(JobRow.kind != "prune", JobRow.owner.not_in(full))
    with database.read() as session:
        return tuple(
            session.scalars(
                select(JobRow.id)
                .where(
                    JobRow.kind.in_(kinds),
                    JobRow.state == Status.QUEUED,
                    may_run,
                    or_(
                        JobRow.dispatched_at.is_(None),
                        JobRow.dispatched_at < func.clock() - forgotten_after,
                    ),
                )
                .order_by(JobRow.id)
            ).all()
        )


def mark_dispatched(database: Database, job: str) -> None:
    """Remember that a queued job was announced."""
    with database.write() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id == job, JobRow.state == Status.QUEUED)
            .values(dispatched_at=func.clock())
            .execution_options(synchronize_session=False)
        )
