"""Jobs: submit, watch, cancel, retry, delete; and the dry run."""

import asyncio
import fnmatch
import time
from collections.abc import Sequence
from typing import Any, cast

import structlog
from anyio import to_thread
from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, Database, DatasetRow, JobRow, ModelRow
from app.domain.dataset import DatasetInfo
from app.domain.errors import DatasetMismatch, InvalidSpec, NotFound, Unavailable, WrongState
from app.domain.ids import new_id
from app.domain.job import ENDED, ArtifactFile, JobKind, Status
from app.domain.metrics import Plan
from app.domain.model import ModelInfo
from app.domain.people import ANYBODY, Caller
from app.domain.ports import Queue, Store
from app.domain.queues import QueueName, queue_of, rank
from app.domain.spec import PruningSpec
from app.intake.fit import check_objective
from app.observe import traces
from app.services import audit, events, quotas
from app.services.dispatch import Marks, dispatch
from app.services.endings import moved
from app.services.errors import from_problem
from app.services.idempotency import Answer, fingerprint, once
from app.services.line import Asked, Line, own_before
from app.services.resources import JobResource, job_resource
from app.services.uploads import forget_files
from app.settings import Settings

log = structlog.get_logger(__name__)

PLAN_POLL_SECONDS = 0.05
NOW = select(func.clock())
EMPTY = (
    *("started_at", "finished_at", "attempt_started_at", "lease_expires_at", "dispatched_at"),
    *("worker", "progress", "checkpoint", "error", "result", "sweep_id", "sweep_index", "varied"),
)
"""Columns of a job that nobody has begun."""
PREFIXES: dict[JobKind, str] = {"prune": "job", "plan": "pln", "analysis": "anl"}


class Jobs:
    """Use cases around jobs, on behalf of a caller: others' jobs do not exist for them."""

    def __init__(
        self,
        database: Database,
        store: Store,
        queue: Queue,
        settings: Settings,
        caller: Caller = ANYBODY,
        line: Line | None = None,
        marks: Marks | None = None,
    ) -> None:
        self.database = database
        self.store = store
        self.queue = queue
        self.settings = settings
        self.caller = caller
        self.line = line or Line(settings)
        self.marks = marks

    def of(self, caller: Caller) -> "Jobs":
        """The same on another's behalf."""
        shared = (self.database, self.store, self.queue, self.settings)
        return Jobs(*shared, caller, self.line, self.marks)

    # --- submit ----------------------------------------------------------------------------
    def submit(self, spec: PruningSpec, key: str | None = None) -> Answer:
        """Queue a job.

        Raises `InvalidSpec`, `DatasetMismatch`, `IdempotencyConflict`, `TooManyJobs`,
        `QueuesFull`, `StorageFull`.
        """
        self.check_limit(spec)
        answer = once(
            self.database,
            f"jobs:{self.caller.owner}",
            key,
            key and fingerprint("job", spec.model_dump(mode="json")),
            lambda session: self._create(session, spec),
        )
        if not answer.replayed:
            log.info("job_submitted", job=answer.body["id"])
            queue, job = answer.body["queue"], answer.body["id"]
            dispatch(self.database, self.queue, queue, job, marks=self.marks)
        return answer

    def submit_as(self, id_: str, spec: PruningSpec) -> None:
        """Queue a job under an id of the caller's."""
        with self.database.write() as session:
            queue = self._create(session, spec, id_).body["queue"]
        dispatch(self.database, self.queue, queue, id_)

    def _create(self, session: Session, spec: PruningSpec, id_: str = "") -> Answer:
        check_references(session, spec, self.caller.owner)
        self.check_room(session)
        row = self.insert(session, spec, "prune", self.settings.max_attempts, id_)
        audit.record(session, self.caller, "job.submit", row.id)
        body = self.shown(session, row).model_dump(mode="json", by_alias=True)
        return Answer(status=202, location=f"/v1/jobs/{row.id}", body=body)

    def insert(
        self,
        session: Session,
        spec: PruningSpec,
        kind: JobKind,
        attempts: int,
        id_: str = "",
    ) -> JobRow:
        """Add a queued job's row to the caller's transaction; announce it after the commit."""
        now = session.scalar(NOW)
        assert now is not None
        row = JobRow(
            # All columns: what is left out would be asked of the database when it is shown.
            **dict.fromkeys(EMPTY),
            id=id_ or new_id(PREFIXES[kind]),
            owner=self.caller.owner,
            kind=kind,
            state=Status.QUEUED,
            created_at=now,
            updated_at=now,
            spec=spec.model_dump(mode="json"),
            model_id=spec.model,
            dataset_id=spec.dataset,
            attempts_allowed=attempts,
            fence=0,
            cancel_requested=False,
            seconds_used=0.0,
            last_event=1,
            time_limit_seconds=spec.time_limit_seconds or self.settings.job_time_limit_seconds,
            traceparent=traces.here(),
        )
        self._line_up(row, spec, now)
        session.add(row)
        session.flush()
        events.first(session, row.id, now, "queued")
        return row

    def _line_up(self, row: JobRow, spec: PruningSpec, now: float) -> None:
        """Put a job at the end of its queue, or sooner by its priority."""
        quick = row.kind != "prune"
        row.queue = "quick" if quick else self.queue_of(spec)
        row.memory_bytes = 0 if quick else spec.resources.memory_bytes or 0
        row.priority = 0 if quick else spec.priority
        row.queued_at = now
        row.rank = rank(now, row.priority, self.settings.priority_seconds)

    def queue_of(self, spec: PruningSpec) -> QueueName:
        """The queue that a job waits in."""
        return queue_of(spec.resources, self.settings.job_memory_bytes)

    def check_room(self, session: Session, more: int = 1) -> None:
        """Room for more jobs, the owner's and the whole service's.

        Raises `TooManyJobs`, `QueuesFull`, `StorageFull`.
        """
        quotas.check_jobs(session, self.caller.owner, self.settings, more)
        self.line.check_room(session, more)

    def shown(self, session: Asked, row: JobRow) -> JobResource:
        """A job as its owner sees it."""
        kept_days = self.settings.retention_days_jobs
        position, reason = self.line.position(session, row), self.line.reason(session, row)
        return job_resource(row, kept_days, position, reason)

    def check_limit(self, spec: PruningSpec) -> None:
        """Raises `InvalidSpec` where a job asks for more than the service allows."""
        if spec.priority > self.settings.highest_priority:
            raise InvalidSpec(
                f"priority is {spec.priority}, and this service allows at most "
                f"{self.settings.highest_priority} (setting SECATEUR_HIGHEST_PRIORITY).",
                field="priority",
            )
        limit = self.settings.job_time_limit_seconds
        if spec.time_limit_seconds is not None and spec.time_limit_seconds > limit:
            raise InvalidSpec(
                f"time_limit_seconds is {spec.time_limit_seconds}, and this service allows at "
                f"most {limit:g}. Ask for less, or leave it out.",
                field="time_limit_seconds",
            )

    # --- dry run ---------------------------------------------------------------------------
    async def plan(self, spec: PruningSpec) -> Plan:
        """What the job would cut. Raises what `submit` raises, `EngineRefusal`, `Unavailable`.

        The engine answers it, in a confined process of the workers' quick queue: the API itself
        never loads a model. Waiting holds no thread: other requests need them.
        """
        id_ = await to_thread.run_sync(self._begin_plan, spec)
        result = await self.answer(id_)
        if result is None:
            await to_thread.run_sync(self._abandon, id_)
            raise Unavailable(
                "No worker was free to make the plan within "
                f"{self.settings.plan_timeout_seconds:g} s. Try again, or submit the job: it "
                "waits in the queue."
            )
        plan = Plan.model_validate(result)
        reason = await to_thread.run_sync(self._nobody, spec)
        return plan.model_copy(update={"waiting_reason": reason})

    def _nobody(self, spec: PruningSpec) -> str | None:
        with self.database.read() as session:
            return self.line.nobody(session, self.queue_of(spec), spec.resources.memory_bytes or 0)

    def _begin_plan(self, spec: PruningSpec) -> str:
        self.check_limit(spec)
        with self.database.write() as session:
            check_references(session, spec, self.caller.owner)
            quotas.check_jobs(session, self.caller.owner, self.settings, kind="plan")
            row = self.insert(session, spec, "plan", attempts=2)
        dispatch(self.database, self.queue, "quick", row.id)
        return row.id

    async def answer(self, id_: str) -> dict[str, Any] | None:
        """What a quick job found; None when it did not end in time, or was cancelled.

        Raises what the job failed with.
        """
        deadline = time.monotonic() + self.settings.plan_timeout_seconds
        while time.monotonic() < deadline:
            state, result, error = await to_thread.run_sync(self._ending, id_)
            if state == Status.FAILED:
                raise from_problem(error)
            if state in ENDED:
                return result if state == Status.SUCCEEDED else None
            await asyncio.sleep(PLAN_POLL_SECONDS)
        return None

    def _ending(self, id_: str) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
        with self.database.read() as session:
            row = session.execute(
                select(JobRow.state, JobRow.result, JobRow.error).where(JobRow.id == id_)
            ).one()
        return row.state, row.result, row.error or {}

    def _abandon(self, id_: str) -> None:
        # A plan that nobody waits for would otherwise keep its model in use for good.
        with self.database.write() as session:
            row = session.get(JobRow, id_, with_for_update=True)
            if row is not None:
                stop(session, row)

    # --- read ------------------------------------------------------------------------------
    def get(self, id_: str) -> JobResource:
        """One job. Raises `NotFound`."""
        mine = (self.caller.owner, id_)
        found = self.look([mine])
        if mine not in found:
            raise no_job(id_)
        return found[mine]

    def look(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], JobResource]:
        """Those jobs that are there, by owner and id, whoever asks."""
        with self.database.look() as connection:
            # Not as objects of a session's: what people ask for most only reads.
            rows = connection.execute(_THEIRS, {"asked": [id_ for _, id_ in asked]}).all()
            there = {(row.owner, row.id): cast(JobRow, row) for row in rows}
            return {each: self.shown(connection, there[each]) for each in asked if each in there}

    def has_ended(self, id_: str) -> bool:
        """Whether a job has ended; a deleted one has."""
        with self.database.read() as session:
            state = session.scalar(select(JobRow.state).where(JobRow.id == id_))
        return state is None or Status(state).done

    def newest(
        self,
        limit: int,
        cursor: str | None,
        status: Status | None = None,
        model: str | None = None,
        dataset: str | None = None,
        sweep: str | None = None,
    ) -> list[JobResource]:
        """Newest first, from below the cursor."""
        query = (
            select(JobRow)
            .where(JobRow.kind == "prune", JobRow.owner == self.caller.owner)
            .order_by(JobRow.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(JobRow.id < cursor)
        for column, value in (
            (JobRow.state, status),
            (JobRow.model_id, model),
            (JobRow.dataset_id, dataset),
            (JobRow.sweep_id, sweep),
        ):
            if value is not None:
                query = query.where(column == value)
        with self.database.read() as session:
            return [self.shown(session, row) for row in session.scalars(query)]

    def artifacts(self, id_: str) -> list[ArtifactFile]:
        """Files of a finished job, by name. Raises `NotFound`."""
        with self.database.read() as session:
            self._found(session, id_)
            rows = session.scalars(
                select(ArtifactRow).where(ArtifactRow.job_id == id_).order_by(ArtifactRow.name)
            ).all()
        return [ArtifactFile.model_validate(row, from_attributes=True) for row in rows]

    def artifact(self, id_: str, name: str) -> ArtifactFile:
        """One file of a finished job. Raises `NotFound`, which says what there is."""
        files = self.artifacts(id_)
        for file in files:
            if file.name == name:
                return file
        status = self.get(id_).status
        there = ", ".join(file.name for file in files)
        raise NotFound(
            f"Job {id_} has no artifact {name!r}. "
            + (
                f"It has: {there}. Other formats are asked for with the spec's exports."
                if files
                else f"It is {status}: artifacts are there once a job has ended."
            )
        )

    # --- change ----------------------------------------------------------------------------
    def cancel(self, id_: str) -> JobResource:
        """Stop a job; asking twice is harmless. Raises `NotFound`, `WrongState`."""
        with self.database.write() as session:
            row = self._found(session, id_, lock=True)
            if row.state in (Status.SUCCEEDED, Status.FAILED):
                raise WrongState(
                    f"Job {id_} has already {row.state}; only a queued or running job can be "
                    "cancelled."
                )
            stop(session, row)
            audit.record(session, self.caller, "job.cancel", id_)
            session.refresh(row)
            return self.shown(session, row)

    def retry(self, id_: str) -> JobResource:
        """Queue a failed or cancelled job again; harmless when it is queued or running already.

        Fine-tuning goes on from the last checkpoint, where there is one. Raises `NotFound`,
        `WrongState`, and what `submit` raises when the model or data set is gone.
        """
        with self.database.write() as session:
            row = self._found(session, id_, lock=True)
            if row.state == Status.SUCCEEDED:
                raise WrongState(
                    f"Job {id_} has succeeded; submit its spec as a new job to run it again."
                )
            if row.state == Status.RUNNING and row.cancel_requested:
                raise WrongState(f"Job {id_} is being cancelled; retry it once it has ended.")
            if row.state in (Status.FAILED, Status.CANCELLED):
                spec = PruningSpec.model_validate(row.spec)
                check_references(session, spec, self.caller.owner)
                self.check_room(session)
                audit.record(session, self.caller, "job.retry", id_)
                row.state = Status.QUEUED
                row.cancel_requested = False
                row.error = row.finished_at = row.dispatched_at = row.progress = None
                row.seconds_used = 0.0
                row.attempts_allowed = row.fence + self.settings.max_attempts
                self._line_up(row, spec, session.scalar(select(func.clock())) or 0.0)
                row.traceparent = traces.here()
                session.flush()
                events.record(session, id_, "queued", {"reason": "retry"})
            session.refresh(row)
            resource = self.shown(session, row)
        if resource.status is Status.QUEUED:
            dispatch(self.database, self.queue, resource.queue, id_)
        return resource

    def delete(self, id_: str) -> None:
        """Forget an ended job and its files. Raises `NotFound`, `WrongState`."""
        with self.database.write() as session:
            row = self._found(session, id_, lock=True)
            if row.state not in ENDED:
                raise WrongState(f"Job {id_} is {row.state}: cancel it first, then delete it.")
            session.delete(row)
            audit.record(session, self.caller, "job.delete", id_)
        forget_files(self.store, f"jobs/{id_}")

    def _found(self, session: Session, id_: str, lock: bool = False) -> JobRow:
        query: Any = select(JobRow).where(
            JobRow.id == id_, JobRow.kind == "prune", JobRow.owner == self.caller.owner
        )
        row = session.scalars(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise no_job(id_)
        assert isinstance(row, JobRow)
        return row


_JOBS = JobRow.__table__
_THEIRS = select(_JOBS, own_before(_JOBS.c)).where(
    _JOBS.c.id.in_(bindparam("asked", expanding=True)), _JOBS.c.kind == "prune"
)


def no_job(id_: str) -> NotFound:
    """What to tell who asks for it."""
    return NotFound(f"There is no job {id_!r}. It may have been deleted, or the id is mistyped.")


def _upload_query(row: type[ModelRow] | type[DatasetRow]) -> Any:
    # It must not be deleted before the job that refers to it is there.
    query = select(row.owner, row.info).where(row.id == bindparam("asked"))
    return query.with_for_update(read=True)


_MODEL, _DATASET = _upload_query(ModelRow), _upload_query(DatasetRow)


def _info_of(session: Session, query: Any, id_: str, owner: str) -> dict[str, Any] | None:
    """What is known of an owner's model or data set, which is kept from deletion."""
    found = session.execute(query, {"asked": id_}).one_or_none()
    return found.info if found is not None and found.owner == owner else None


def check_references(session: Session, spec: PruningSpec, owner: str) -> None:
    """The owner has model and data set, they fit each other, and layer patterns match something."""
    model = _info_of(session, _MODEL, spec.model, owner)
    if model is None:
        raise InvalidSpec(
            f"There is no model {spec.model!r}: upload one with POST /v1/models and use the id "
            "that it answers with.",
            field="model",
        )
    info = ModelInfo.model_validate(model)
    names = info.layer_names
    for index, override in enumerate(spec.prune.layers):
        if not fnmatch.filter(names, override.match):
            raise InvalidSpec(
                f"The pattern {override.match!r} matches no layer of the model. Its layers are: "
                f"{', '.join(names[:40])}{' …' if len(names) > 40 else ''}.",
                field=f"prune.layers.{index}.match",
            )
    if spec.dataset is None:
        return
    dataset = _info_of(session, _DATASET, spec.dataset, owner)
    if dataset is None:
        raise InvalidSpec(
            f"There is no data set {spec.dataset!r}: upload one with POST /v1/datasets and use "
            "the id that it answers with.",
            field="dataset",
        )
    try:
        check_objective(info, DatasetInfo.model_validate(dataset), spec)
    except DatasetMismatch as mismatch:
        raise DatasetMismatch(
            mismatch.detail, field=mismatch.field or "dataset", errors=mismatch.errors
        ) from mismatch


def stop(session: Session, row: JobRow) -> None:
    """End a queued job; ask the worker of a running one to stop."""
    if row.state == Status.QUEUED:
        row.state = Status.CANCELLED
        row.finished_at = session.scalar(select(func.clock()))
        row.cancel_requested = True
        session.flush()
        moved(session, row.id, row.kind, str(Status.CANCELLED), {})
    elif row.state == Status.RUNNING and not row.cancel_requested:
        row.cancel_requested = True
        session.flush()
        events.record(session, row.id, "cancel_requested", {})
