"""Which workers there are, and what they can confine jobs by: told by each, while it lives."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select, update

from app.adapters.database import Database, WorkerRow
from app.domain.base import Record
from app.domain.confinement import Confinement

RENEWED_SECONDS = 15.0
FORGOTTEN_SECONDS = 60.0
"""A worker that has not renewed its row for this long is gone."""


class WorkerConfinement(Record):
    """A worker process, and what it has tried out at its start."""

    worker: str
    runs_jobs: bool
    """False where something required is missing and the operator has not allowed that."""
    confinement: Confinement
    queues: list[str] = []
    """What it serves."""


def report(
    database: Database,
    name: str,
    confinement: Confinement,
    queues: Sequence[str] = ("jobs", "quick"),
    memory_bytes: int = 0,
) -> None:
    """Say that a worker lives. Rows of those long gone are swept on the way."""
    told = confinement.model_dump(mode="json")
    with database.write() as session:
        session.execute(
            delete(WorkerRow).where(
                (WorkerRow.name == name)
                | (WorkerRow.seen_at < func.clock() - 10 * FORGOTTEN_SECONDS)
            )
        )
        session.execute(
            insert(WorkerRow).values(
                name=name,
                seen_at=func.clock(),
                confinement=told,
                queues=" ".join(queues),
                memory_bytes=memory_bytes,
            )
        )


def renew(database: Database, name: str) -> bool:
    """Say that a worker still lives; False when its row was swept meanwhile."""
    with database.write() as session:
        found = session.scalar(
            update(WorkerRow)
            .where(WorkerRow.name == name)
            .values(seen_at=func.clock())
            .returning(WorkerRow.name)
        )
    return found is not None


def forget(database: Database, name: str) -> None:
    """A worker ends."""
    with database.write() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.name == name))


def living(database: Database) -> list[WorkerConfinement]:
    """All workers that have been heard of within a minute, by name."""
    with database.read() as session:
        rows = session.scalars(
            select(WorkerRow)
            .where(WorkerRow.seen_at > func.clock() - FORGOTTEN_SECONDS)
            .order_by(WorkerRow.name)
        ).all()
    return [_seen(row) for row in rows]


def _seen(row: WorkerRow) -> WorkerConfinement:
    confinement = Confinement.model_validate(row.confinement)
    return WorkerConfinement(
        worker=row.name,
        runs_jobs=not confinement.missing or confinement.overridden,
        confinement=confinement,
        queues=row.queues.split(),
    )
