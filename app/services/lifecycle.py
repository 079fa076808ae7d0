"""The life of a job in the database: claim, keep, finish, give up.

queued ──claim──> running ──finish──> succeeded | failed | cancelled
   ▲                 │
   └──lease lost─────┘  (or failed, when no attempt is left)

Every transition is one conditional statement in one transaction with its event. Each claim
raises the row's `fence`; whoever writes for an attempt names the fence it was given, and zero
matching rows means that the job belongs to somebody else by now.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import and_, case, delete, func, insert, or_, select, text, true, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, Database, DatasetRow, JobRow, ModelRow
from app.domain.dataset import DatasetInfo
from app.domain.errors import AttemptsExhausted, InternalError, SecateurError, Unavailable
from app.domain.job import ArtifactFile, Attempt, Checkpoint, Progress, Status
from app.domain.model import ModelInfo
from app.domain.ports import content_sha256
from app.domain.queues import QueueName
from app.domain.spec import PruningSpec
from app.services import events, tallies
from app.services.endings import moved
from app.services.line import next_job, running_by_owner

log = structlog.get_logger(__name__)

CLAIM_LOCK = 7_300_422
"""PostgreSQL's number of the lock that a claim holds."""
CLAIM_TRIES = 5

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
        _lock_claims(session)
        if most_running is not None and not _may_run(session, job, most_running):
            return None
        return _take(session, job, worker, lease_seconds)


def claim_next(
    database: Database,
    queue: QueueName,
    worker: str,
    lease_seconds: float,
    *,
    memory_bytes: int,
    priority_seconds: float,
    most_running: int | None = None,
) -> Attempt | None:
    """Take the job of a queue whose turn it is; None when there is nothing to take.

    The order is that of `app.domain.queues`. Jobs that need more memory than the worker allows, and
    those of owners who have `most_running` running, stay in the queue.
    """
    with database.write() as session:
        _lock_claims(session)
        for _ in range(CLAIM_TRIES):
            job = next_job(session, queue, memory_bytes, priority_seconds, most_running)
            if job is None:
                return None
            # None where its owner has cancelled it in between.
            if attempt := _take(session, job, worker, lease_seconds):
                return attempt
    return None


def _lock_claims(session: Session) -> None:
    """One claim at a time: two would both count the jobs that run before either has begun, and
    would both want the same next job. SQLite's writers already are one at a time.

    Nobody waits for this lock who holds another.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": CLAIM_LOCK})


def _take(session: Session, job: str, worker: str, lease_seconds: float) -> Attempt | None:
    lost_one = _is_lost(session, job)
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
    row = session.get_one(JobRow, job, populate_existing=True)
    events.record(session, job, "running", {"attempt": row.fence})
    tallies.began(session, row, lost_one=lost_one)
    return _attempt(session, row)


def _is_lost(session: Session, job: str) -> bool:
    """Whether another worker's attempt has run out, and no reaper has seen it yet.

    The row is locked: it stays so until it is claimed.
    """
    query = select(JobRow.id).where(JobRow.id == job, _expired()).with_for_update()
    return session.scalar(query) is not None


def _may_run(session: Session, job: str, most_running: int) -> bool:
    found = session.execute(
        select(JobRow.owner, JobRow.kind, JobRow.state).where(JobRow.id == job)
    ).one_or_none()
    if found is None or found.kind != "prune":
        return True
    others: int = running_by_owner(session)[found.owner] - (found.state == Status.RUNNING)
    return others < most_running


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
            "owner": row.owner,
            "traceparent": row.traceparent,
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
    phases: Mapping[str, float] | None = None,
) -> Status:
    """End the job and publish its artifacts in one compare-and-set; returns how it ended.

    A success that comes after the user was told that the job is being cancelled is a cancellation.
    Raises `LeaseLost`, also where the job has ended by this very attempt: see `has_succeeded`.
    `phases` are the seconds that the attempt spent in each, to be counted.
    """
    with database.write() as session:
        row = session.scalars(
            select(JobRow)
            .where(JobRow.id == attempt.job, JobRow.fence == attempt.fence)
            .with_for_update()
        ).one_or_none()
        if row is not None and row.cancel_requested and status is Status.SUCCEEDED:
            status, result, artifacts = Status.CANCELLED, None, ()
        used = session.execute(
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
            )
            .returning(JobRow.seconds_used)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if used is None:
            raise LeaseLost(attempt.job)
        session.execute(delete(ArtifactRow).where(ArtifactRow.job_id == attempt.job))
        for file in artifacts:
            session.execute(insert(ArtifactRow).values(job_id=attempt.job, **file.model_dump()))
        data: dict[str, Any] = {"artifacts": [file.name for file in artifacts]}
        if error is not None:
            data["error"] = error
        moved(session, attempt.job, attempt.kind, str(status), data, used)
        tallies.phases(session, phases or {})
    return status


def has_succeeded(database: Database, attempt: Attempt) -> bool:
    """Whether the attempt's success was committed: the answer to `finish` may have been lost."""
    with database.read() as session:
        found = session.scalar(
            select(JobRow.id).where(
                JobRow.id == attempt.job,
                JobRow.fence == attempt.fence,
                JobRow.state == Status.SUCCEEDED,
            )
        )
    return found is not None


def kept_keys(database: Database, attempt: Attempt) -> set[str]:
    """Keys of the attempt's job that its row refers to, for good. Raises `Unavailable` where the
    attempt still holds the job: then nothing is settled.
    """
    with database.read() as session:
        row = session.get(JobRow, attempt.job)
        if row is None:
            return set()
        if row.fence == attempt.fence and row.state == Status.RUNNING:
            raise Unavailable(f"Job {attempt.job} is still held by its attempt {attempt.fence}.")
        keys = set(
            session.scalars(select(ArtifactRow.key).where(ArtifactRow.job_id == attempt.job))
        )
        if row.checkpoint:
            keys.add(row.checkpoint["key"])
        return keys


def postpone(database: Database, attempt: Attempt, error: SecateurError) -> None:
    """Give the job back because the worker could not do its part: that attempt counts.

    Like `hand_back`, a job that is being cancelled is cancelled. Harmless when the lease is lost.
    """
    spent = JobRow.fence >= JobRow.attempts_allowed
    ended = or_(JobRow.cancel_requested, spent)
    with database.write() as session:
        state = session.execute(
            update(JobRow)
            .where(_mine(attempt))
            .values(
                state=case(
                    (JobRow.cancel_requested, Status.CANCELLED),
                    (spent, Status.FAILED),
                    else_=Status.QUEUED,
                ),
                finished_at=case((ended, func.clock()), else_=None),
                lease_expires_at=None,
                dispatched_at=None,
                seconds_used=JobRow.seconds_used + (func.clock() - JobRow.attempt_started_at),
            )
            .returning(JobRow.state)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if state is None:
            return
        data: dict[str, Any] = {"reason": error.detail, "attempt": attempt.fence}
        if state == Status.FAILED:
            data["error"] = error.as_problem()
            session.execute(
                update(JobRow)
                .where(JobRow.id == attempt.job)
                .values(error=data["error"])
                .execution_options(synchronize_session=False)
            )
        moved(session, attempt.job, attempt.kind, state, data)
        tallies.count(session, tallies.HANDED_BACK, attempt.kind)


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
            moved(session, attempt.job, attempt.kind, state, {"reason": reason})
            tallies.count(session, tallies.HANDED_BACK, attempt.kind)


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
        moved(session, job, row.kind, str(values["state"]), reason, used)
        tallies.count(session, tallies.LOST, row.kind)
        who = {"attempt": row.fence, "worker": row.worker, "owner": row.owner}
    log.warning("lease_lost", job=job, status=str(values["state"]), **who)
    return True


def undispatched(
    database: Database,
    queue: QueueName,
    forgotten_after: float,
    most_running: int | None = None,
    *,
    skip: int = 0,
    at_most: int = 1000,
) -> tuple[str, ...]:
    """Queued jobs never announced, or announced longer ago than `forgotten_after` seconds.

    The first `skip` are left out, and no more than `at_most` told. With `most_running`, without
    those of owners who have that many running: no worker would take them.
    """
    may_run: Any = true()
    if most_running is not None:
        full = (
            select(JobRow.owner)
            .where(JobRow.kind == "prune", JobRow.state == Status.RUNNING)
            .group_by(JobRow.owner)
            .having(func.count() >= most_running)
        )
        may_run = or_(JobRow.queue == "quick", JobRow.owner.not_in(full))
    with database.read() as session:
        return tuple(
            session.scalars(
                select(JobRow.id)
                .where(
                    JobRow.queue == queue,
                    JobRow.state == Status.QUEUED,
                    may_run,
                    or_(
                        JobRow.dispatched_at.is_(None),
                        JobRow.dispatched_at < func.clock() - forgotten_after,
                    ),
                )
                .order_by(JobRow.owner, JobRow.rank, JobRow.id)
                .offset(skip)
                .limit(at_most)
            ).all()
        )


def mark_dispatched(database: Database, *jobs: str) -> None:
    """Remember that queued jobs were announced."""
    with database.write() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(jobs), JobRow.state == Status.QUEUED)
            .values(dispatched_at=func.clock())
            .execution_options(synchronize_session=False)
        )
