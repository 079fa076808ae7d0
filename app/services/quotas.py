"""What one owner may have at once: bytes stored, jobs waiting. Counted, never kept as a sum.

Whoever checks holds the owner's lock until the end of the transaction that uses what is left, so
that two requests cannot both take the last place. The lock comes after those of rows, always.
"""

import time
from typing import Any

from sqlalchemy import Select, bindparam, func, select, text
from sqlalchemy.orm import Session

from app.adapters.database import ArtifactRow, DatasetRow, JobRow, ModelRow, UploadRow
from app.domain.errors import StorageFull, TooManyJobs, TooManyUploads
from app.domain.job import JobKind, Status
from app.domain.upload import UNFINISHED
from app.settings import Settings

OWNER_LOCKS = 7_300
"""First of the two numbers that PostgreSQL knows the locks by; the second is the owner's."""


def lock(session: Session, owner: str) -> None:
    """One transaction at a time counts for an owner. SQLite's writers already are one at a time."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            text("SELECT pg_advisory_xact_lock(:kind, hashtext(:owner))"),
            {"kind": OWNER_LOCKS, "owner": owner},
        )


def stored_bytes(session: Session, owner: str) -> int:
    """What an owner's uploads, results and checkpoints hold, and what unfinished uploads will.

    Equal content counts each time it was uploaded: whether somebody else has it already is
    nobody's business.
    """
    queries: tuple[Select[int], ...] = (
        select(func.sum(ModelRow.bytes)).where(ModelRow.owner == owner),
        select(func.sum(DatasetRow.bytes)).where(DatasetRow.owner == owner),
        select(func.sum(ArtifactRow.bytes))
        .join(JobRow, JobRow.id == ArtifactRow.job_id)
        .where(JobRow.owner == owner),
        select(func.sum(JobRow.checkpoint["bytes"].as_integer())).where(JobRow.owner == owner),
        select(func.sum(UploadRow.length)).where(
            UploadRow.owner == owner, UploadRow.state.in_(UNFINISHED)
        ),
    )
    return sum(int(session.scalar(query) or 0) for query in queries)


def check_room(session: Session, owner: str, settings: Settings, more: int = 0) -> int:
    """Bytes that are left after `more`. Raises `StorageFull`."""
    left = settings.quota_stored_bytes - stored_bytes(session, owner) - more
    if left < 0 or (left == 0 and not more):
        needs = f", and this needs {more:,} more" if more else ""
        raise StorageFull(
            f"{settings.quota_stored_bytes - left - more:,} of the {settings.quota_stored_bytes:,} "
            f"bytes that one owner may store are in use{needs}. Delete models, data sets or jobs "
            "(setting SECATEUR_QUOTA_STORED_BYTES)."
        )
    return left


def check_uploads(session: Session, owner: str, settings: Settings) -> None:
    """Room for one more unfinished upload. Raises `TooManyUploads`."""
    there = session.scalar(
        select(func.count())
        .select_from(UploadRow)
        .where(UploadRow.owner == owner, UploadRow.state.in_(UNFINISHED))
    )
    if (there or 0) >= settings.quota_unfinished_uploads:
        raise TooManyUploads(
            f"{there} uploads of yours are unfinished, and at most "
            f"{settings.quota_unfinished_uploads} may be. Finish some, or delete them (setting "
            "SECATEUR_QUOTA_UNFINISHED_UPLOADS)."
        )


def check_jobs(
    session: Session, owner: str, settings: Settings, more: int = 1, kind: JobKind = "prune"
) -> None:
    """Room for more jobs in the queue, and for their results. Raises `TooManyJobs`, `StorageFull`.

    Takes the owner's lock; not for dry runs and analyses, of which a few too many do no harm, while
    requests that wait for each other hold threads.
    """
    if kind == "prune":
        lock(session, owner)
    limit = settings.quota_queued_jobs if kind == "prune" else settings.quota_queued_questions
    waiting = _waiting(session, owner, kind)
    if waiting + more > limit:
        what, name = (
            ("jobs", "SECATEUR_QUOTA_QUEUED_JOBS")
            if kind == "prune"
            else ("dry runs and analyses", "SECATEUR_QUOTA_QUEUED_QUESTIONS")
        )
        raise TooManyJobs(
            f"{waiting} {what} of yours wait already, this would add {more}, and at most {limit} "
            f"may wait for one owner. Try again when some have begun, or cancel some (setting "
            f"{name})."
        )
    if kind == "prune" and not _surely_has_room(session, owner, settings):
        check_room(session, owner, settings)


REMEMBERED_SECONDS = 30.0
MUCH_ROOM_BYTES = 16 * 1024**3
_had_room: dict[tuple[str, str, int], float] = {}
"""When an owner of a database was last seen to have much room under a quota. To sum up a hundred
thousand files would take longer than all else that a submit does; it needs no more than some room,
and what comes in within the time it is remembered is far less than this."""


def _surely_has_room(session: Session, owner: str, settings: Settings) -> bool:
    quota = settings.quota_stored_bytes
    key = (str(session.get_bind().engine.url), owner, quota)
    now = time.monotonic()
    if now - _had_room.get(key, -REMEMBERED_SECONDS) < REMEMBERED_SECONDS:
        return True
    if quota - stored_bytes(session, owner) > MUCH_ROOM_BYTES:
        _had_room[key] = now
        return True
    _had_room.pop(key, None)
    return False


def _waiting_query(kind: Any) -> Select[int]:
    jobs = JobRow.__table__
    whose = jobs.c.owner == bindparam("whose")
    return select(func.count()).select_from(jobs).where(whose, jobs.c.state == Status.QUEUED, kind)


_WAITING_JOBS = _waiting_query(JobRow.__table__.c.kind == "prune")
_WAITING_QUESTIONS = _waiting_query(JobRow.__table__.c.kind != "prune")


def _waiting(session: Session, owner: str, kind: JobKind) -> int:
    query = _WAITING_JOBS if kind == "prune" else _WAITING_QUESTIONS
    return int(session.scalar(query, {"whose": owner}) or 0)
