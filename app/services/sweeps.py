"""Sweeps: many jobs that are submitted, watched, compared and ended as one."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from app.adapters.database import JobRow, SweepRow
from app.domain.base import Record
from app.domain.errors import DatasetMismatch, InvalidSpec, NotFound, WrongState
from app.domain.ids import new_id
from app.domain.job import ENDED, Status
from app.domain.metrics import State
from app.domain.pareto import Point, by_interest, on_front
from app.domain.queues import QueueName
from app.domain.spec import PruningSpec
from app.domain.sweep import Member, SweepSpec
from app.services import audit
from app.services.dispatch import dispatch
from app.services.idempotency import Answer, fingerprint, once
from app.services.jobs import Jobs, check_references, stop
from app.services.resources import expiry, moment
from app.services.uploads import forget_files


class ComparedJob(Record):
    """One job of a sweep beside the others."""

    job: str
    varied: dict[str, Any]
    """What sets it apart: values by the path of their field, or its place in the list of specs."""
    status: Status
    share: float
    """Of the job, done."""
    error: str | None
    after: State | None
    """The model in the end, once the job has succeeded."""
    pareto: bool
    """No other job's model is at least as good in parameters that are not zero, in MACs and in the
    first metric, and better in one of them."""


class SweepResource(Record):
    """A sweep and where it stands."""

    id: str = Field(examples=["swp_example"])
    name: str | None
    created_at: datetime
    expires_at: datetime | None = None
    """The job that ended first is deleted then, with its files, and the others as they ended; null
    where jobs are kept, and while none has ended."""
    done: bool
    """True when all of its jobs have ended, however."""
    counts: dict[Status, int]
    """Jobs by status."""
    share: float
    """Of all jobs, done."""
    before: State | None
    """The model that the first job began with, once one has succeeded."""
    jobs: tuple[ComparedJob, ...]
    """In the order of the specs, or of the grid."""
    links: dict[str, str]


class Sweeps:
    """Use cases around sweeps, on behalf of the jobs' caller."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.database = jobs.database
        self.caller = jobs.caller

    def submit(
        self,
        sweep: SweepSpec,
        specs: Sequence[tuple[Member, PruningSpec]],
        key: str | None = None,
        id_: str = "",
    ) -> Answer:
        """Queue all jobs, or none. Raises what submitting a job raises, with the place of the spec.

        Args:
            sweep: as it came.
            specs: its members, read.
            key: Idempotency-Key.
            id_: of the sweep, where the caller has one.
        """

        def create(session: Session) -> Answer:
            self._check(session, specs)
            row = SweepRow(id=id_ or new_id("swp"), spec=sweep.model_dump(mode="json"))
            row.owner = self.caller.owner
            row.created_at = session.scalar(select(func.clock()))  # type: ignore[assignment]
            session.add(row)
            for index, (member, spec) in enumerate(specs):
                job = self.jobs.insert(session, spec, "prune", self.jobs.settings.max_attempts)
                job.sweep_id, job.sweep_index, job.varied = row.id, index, member.varied
            session.flush()
            audit.record(session, self.caller, "sweep.submit", row.id, jobs=len(specs))
            body = self._resource(session, row).model_dump(mode="json", by_alias=True)
            return Answer(status=202, location=f"/v1/sweeps/{row.id}", body=body)

        print_ = fingerprint("sweep", sweep.model_dump(mode="json"))
        answer = once(self.database, f"sweeps:{self.caller.owner}", key, print_, create)
        if not answer.replayed:
            by_queue: dict[QueueName, list[str]] = {}
            for job, (_, spec) in zip(answer.body["jobs"], specs, strict=True):
                by_queue.setdefault(self.jobs.queue_of(spec), []).append(job["job"])
            for queue, jobs in by_queue.items():
                dispatch(self.database, self.jobs.queue, queue, *jobs)
        return answer

    def _check(self, session: Session, specs: Sequence[tuple[Member, PruningSpec]]) -> None:
        for member, spec in specs:
            try:
                self.jobs.check_limit(spec)
                check_references(session, spec, self.caller.owner)
            except (InvalidSpec, DatasetMismatch) as error:
                raise type(error)(
                    f"{member.at}: {error.detail}", field=member.at, errors=error.errors
                ) from error
        # After the rows' locks, as everywhere: the other way round two could wait for each other.
        self.jobs.check_room(session, len(specs))

    def get(self, id_: str) -> SweepResource:
        """One sweep. Raises `NotFound`."""
        with self.database.read() as session:
            return self._resource(session, self._found(session, id_))

    def newest(self, limit: int, cursor: str | None) -> list[SweepResource]:
        """Newest first, from below the cursor."""
        query = (
            select(SweepRow)
            .where(SweepRow.owner == self.caller.owner)
            .order_by(SweepRow.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(SweepRow.id < cursor)
        with self.database.read() as session:
            return [self._resource(session, row) for row in session.scalars(query)]

    def table(self, id_: str) -> str:
        """The comparison as CSV: a line for each job. Raises `NotFound`."""
        return _csv(self.get(id_))

    def cancel(self, id_: str) -> SweepResource:
        """Stop all jobs that have not ended; asking twice is harmless. Raises `NotFound`."""
        with self.database.write() as session:
            row = self._found(session, id_)
            for job in _jobs(session, id_):
                stop(session, job)
            audit.record(session, self.caller, "sweep.cancel", id_)
            session.flush()
            return self._resource(session, row)

    def retry(self, id_: str) -> SweepResource:
        """Queue its failed and cancelled jobs again; what succeeded stays.

        Raises `NotFound`, and what retrying a job raises.
        """
        with self.database.read() as session:
            self._found(session, id_)
            again = session.scalars(
                select(JobRow.id)
                .where(
                    JobRow.sweep_id == id_,
                    JobRow.state.in_((Status.FAILED, Status.CANCELLED)),
                )
                .order_by(JobRow.sweep_index)
            ).all()
        for job in again:
            self.jobs.retry(job)
        return self.get(id_)

    def delete(self, id_: str) -> None:
        """Forget a sweep, its jobs and their files. Raises `NotFound`, `WrongState`."""
        with self.database.write() as session:
            row = self._found(session, id_)
            jobs = _jobs(session, id_)
            going_on = [job.id for job in jobs if job.state not in ENDED]
            if going_on:
                raise WrongState(
                    f"{len(going_on)} jobs of sweep {id_} have not ended: cancel it first, then "
                    "delete it."
                )
            for job in jobs:
                session.delete(job)
            session.delete(row)
            audit.record(session, self.caller, "sweep.delete", id_, jobs=len(jobs))
        for job in jobs:
            forget_files(self.jobs.store, f"jobs/{job.id}")

    def _resource(self, session: Session, row: SweepRow) -> SweepResource:
        return _resource(row, _rows(session, row.id), self.jobs.settings.retention_days_jobs)

    def _found(self, session: Session, id_: str) -> SweepRow:
        row = session.get(SweepRow, id_)
        if row is None or row.owner != self.caller.owner:
            raise NotFound(
                f"There is no sweep {id_!r}. It may have been deleted, or the id is mistyped."
            )
        return row


def _jobs(session: Session, sweep: str) -> Sequence[JobRow]:
    query = select(JobRow).where(JobRow.sweep_id == sweep).with_for_update()
    return session.scalars(query).all()


def _rows(session: Session, sweep: str) -> Sequence[Row[Any]]:
    """What a comparison needs of the jobs; histories and tables of layers stay where they are."""
    return session.execute(
        select(
            JobRow.id,
            JobRow.state,
            JobRow.finished_at,
            JobRow.varied,
            JobRow.progress,
            JobRow.error,
            JobRow.result["before"].label("before"),
            JobRow.result["after"].label("after"),
        )
        .where(JobRow.sweep_id == sweep)
        .order_by(JobRow.sweep_index)
    ).all()


def _resource(sweep: SweepRow, rows: Sequence[Row[Any]], kept_days: float) -> SweepResource:
    after = [State.model_validate(row.after) if row.after else None for row in rows]
    front = on_front([None if state is None else _point(state) for state in after])
    jobs = tuple(
        ComparedJob(
            job=row.id,
            varied=row.varied or {},
            status=Status(row.state),
            share=_share(row),
            error=row.error["detail"] if row.error else None,
            after=state,
            pareto=best,
        )
        for row, state, best in zip(rows, after, front, strict=True)
    )
    states = [job.status for job in jobs]
    first = min((row.finished_at for row in rows if row.finished_at), default=None)
    base = f"/v1/sweeps/{sweep.id}"
    return SweepResource(
        id=sweep.id,
        name=sweep.spec["name"],
        created_at=moment(sweep.created_at),
        expires_at=expiry(first, kept_days),
        done=all(state.done for state in states),
        counts={state: states.count(state) for state in Status if state in states},
        share=sum(job.share for job in jobs) / len(jobs) if jobs else 1.0,
        before=next((State.model_validate(row.before) for row in rows if row.before), None),
        jobs=jobs,
        links={"self": base, "table": f"{base}/table.csv", "plot": f"{base}/plot.svg"},
    )


def _share(row: Row[Any]) -> float:
    if Status(row.state).done:
        return 1.0
    return float(row.progress["share"]) if row.progress else 0.0


def _point(state: State) -> Point:
    name = next(iter(by_interest(state.evaluation)), "")
    return Point(
        sizes=(state.nonzero_parameters, state.macs),
        metric=name,
        value=state.evaluation[name].value if name else None,
    )


def _csv(sweep: SweepResource) -> str:
    varied = list(dict.fromkeys(path for job in sweep.jobs for path in job.varied))
    metrics = _keys(sweep, lambda state: state.evaluation)
    files = _keys(sweep, lambda state: state.bytes)
    timed = _keys(sweep, _speed_ups)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        [
            *("job", "status", *varied, "parameters", "nonzero_parameters", "macs"),
            *(f"bytes.{name}" for name in files),
            *(column for name in metrics for column in (name, f"{name}.low", f"{name}.high")),
            *(f"speed_up.{name}" for name in timed),
            *("pareto", "error"),
        ]
    )
    for job in sweep.jobs:
        table.writerow(
            [
                *(job.job, job.status.value, *(_cell(job.varied.get(path)) for path in varied)),
                *_figures(job.after, files, metrics, timed),
                *(int(job.pareto), job.error or ""),
            ]
        )
    return text.getvalue()


def _keys(sweep: SweepResource, of: Any) -> list[str]:
    return list(dict.fromkeys(name for job in sweep.jobs if job.after for name in of(job.after)))


def _speed_ups(state: State) -> dict[str, float | None]:
    return {
        f"{one.runtime}.batch_{one.batch_size}.threads_{one.threads}": one.speed_up
        for one in state.latency
    }


def _figures(
    state: State | None, files: list[str], metrics: list[str], timed: list[str]
) -> list[Any]:
    if state is None:
        return [""] * (3 + len(files) + 3 * len(metrics) + len(timed))
    found: list[Any] = [state.parameters, state.nonzero_parameters, state.macs]
    found += [state.bytes.get(name) for name in files]
    for name in metrics:
        metric = state.evaluation.get(name)
        low, high = (metric.interval if metric else None) or (None, None)
        found += [metric.value if metric else None, low, high]
    found += [_speed_ups(state).get(name) for name in timed]
    return ["" if value is None else value for value in found]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
