"""Who waits in which queue, whose turn it is, and whether anybody serves it.

The claim looks at the rows under a lock. What people see (positions, figures of a queue, whether
there is room) comes from counts that are at most a second old: at a hundred thousand waiting jobs
counting takes some milliseconds, which not every request is to pay.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.adapters.database import Database, JobRow, WorkerRow
from app.domain.base import Record
from app.domain.errors import QueuesFull
from app.domain.job import Status
from app.domain.queues import QUEUES, Head, QueueName, no_worker
from app.services.workers import FORGOTTEN_SECONDS
from app.settings import Settings

KEPT_SECONDS = 1.0
Asked = Session | Connection
"""What statements are asked of."""


class QueueState(Record):
    """How a queue stands: what scaling by depth and age needs."""

    queue: QueueName
    waiting: int
    oldest_seconds: float
    """How long the oldest waiting job has waited; 0 where none waits."""
    running: int
    workers: int
    """Processes that serve it and were heard of within a minute."""


def queue_state(database: Database) -> list[QueueState]:
    """All queues, also those that nobody uses."""
    waiting: dict[str, tuple[int, float]] = {}
    with database.read() as session:
        for queue, count, oldest in session.execute(
            select(JobRow.queue, func.count(), func.clock() - func.min(JobRow.queued_at))
            .where(JobRow.state == Status.QUEUED)
            .group_by(JobRow.queue)
        ):
            waiting[queue] = (count, max(oldest, 0.0))
        running = Counter(
            dict(
                session.execute(
                    select(JobRow.queue, func.count())
                    .where(JobRow.state == Status.RUNNING)
                    .group_by(JobRow.queue)
                ).all()
            )
        )
        serving = Counter(queue for one in _serving(session) for queue in one[0])
    return [
        QueueState(
            queue=queue,
            waiting=waiting.get(queue, (0, 0.0))[0],
            oldest_seconds=waiting.get(queue, (0, 0.0))[1],
            running=running[queue],
            workers=serving[queue],
        )
        for queue in QUEUES
    ]


def _serving(session: Asked) -> list[tuple[list[str], int]]:
    """Queues and memory of each living worker."""
    rows = session.execute(
        select(WorkerRow.queues, WorkerRow.memory_bytes).where(
            WorkerRow.seen_at > func.clock() - FORGOTTEN_SECONDS
        )
    )
    return [(queues.split(), memory) for queues, memory in rows]


def running_by_owner(session: Asked) -> Counter[str]:
    """Jobs that run; dry runs and analyses do not count."""
    rows = session.execute(
        select(JobRow.owner, func.count())
        .where(JobRow.state == Status.RUNNING, JobRow.kind == "prune")
        .group_by(JobRow.owner)
    )
    return Counter(dict(rows.all()))


# --- whose turn it is --------------------------------------------------------------------------
def heads_query(queue: QueueName, memory_bytes: int) -> Any:
    """The first waiting job of each owner: some steps down an index per owner, however many wait.

    Rows: id, owner, priority, queued_at, the owner's last start in this queue, now.
    """
    first, later, head, served = (aliased(JobRow) for _ in range(4))

    def waits(row: Any) -> Any:
        return and_(row.state == Status.QUEUED, row.queue == queue)

    owners = (
        select(func.min(first.owner).label("owner"))
        .where(waits(first))
        .cte("owners", recursive=True)
    )
    following = (
        select(func.min(later.owner))
        .where(waits(later), later.owner > owners.c.owner)
        .correlate(owners)
        .scalar_subquery()
    )
    owners = owners.union_all(select(following).where(owners.c.owner.is_not(None)))
    head_id = (
        select(head.id)
        .where(
            waits(head),
            head.owner == owners.c.owner,
            head.memory_bytes <= memory_bytes,
            head.cancel_requested.is_(False),
            head.fence < head.attempts_allowed,
        )
        .order_by(head.rank, head.id)
        .limit(1)
        .correlate(owners)
        .scalar_subquery()
    )
    last = (
        select(func.max(served.attempt_started_at))
        .where(served.queue == queue, served.owner == owners.c.owner)
        .correlate(owners)
        .scalar_subquery()
    )
    return select(
        JobRow.id, JobRow.owner, JobRow.priority, JobRow.queued_at, last, func.clock()
    ).join_from(owners, JobRow, JobRow.id == head_id)


def next_job(
    session: Session,
    queue: QueueName,
    memory_bytes: int,
    priority_seconds: float,
    most_running: int | None = None,
) -> str | None:
    """The job whose turn it is, of those that a worker with so much memory may take."""
    rows: Sequence[Any] = session.execute(heads_query(queue, memory_bytes)).all()
    if not rows:
        return None
    running = Counter[str]() if queue == "quick" else running_by_owner(session)
    now = rows[0][5]
    heads = [
        Head(
            job=id_,
            owner=owner,
            priority=priority,
            waiting_since=max(queued_at, last or 0.0),
            running=running[owner],
        )
        for id_, owner, priority, queued_at, last, _ in rows
        if most_running is None or running[owner] < most_running
    ]
    first = min(heads, key=lambda head: head.turn(now, priority_seconds), default=None)
    return None if first is None else first.job


# --- what people see ---------------------------------------------------------------------------
class _Waiting:
    """One owner in one queue."""

    def __init__(self) -> None:
        self.by_priority: Counter[int] = Counter()
        self.since = 0.0


class _Census:
    """All queues at one moment."""

    def __init__(self, session: Asked) -> None:
        self.owners: dict[tuple[str, str], _Waiting] = defaultdict(_Waiting)
        rows = session.execute(
            select(
                JobRow.queue,
                JobRow.owner,
                JobRow.priority,
                func.count(),
                func.min(JobRow.queued_at),
            )
            .where(JobRow.state == Status.QUEUED)
            .group_by(JobRow.queue, JobRow.owner, JobRow.priority)
        )
        for queue, owner, priority, count, since in rows:
            found = self.owners[queue, owner]
            found.by_priority[priority] = count
            found.since = min(found.since or since, since)
        self.running = running_by_owner(session)
        self.serving = _serving(session)
        # Dry runs and analyses have limits of their own.
        self.jobs = sum(
            one.by_priority.total() for key, one in self.owners.items() if key[0] != "quick"
        )


def _own_before(queue: Any, owner: Any, rank: Any, id_: Any) -> Any:
    """Counts those of a job's owner that wait before it."""
    others = JobRow.__table__.alias("others")
    its = others.c
    return (
        select(func.count())
        .select_from(others)
        .where(
            its.state == Status.QUEUED,
            its.queue == queue,
            its.owner == owner,
            or_(its.rank < rank, and_(its.rank == rank, its.id < id_)),
        )
    )


def own_before(job: Any) -> Any:
    """That number as a column beside a job's own, null where the job does not wait."""
    count = _own_before(job.queue, job.owner, job.rank, job.id).scalar_subquery()
    return case((job.state == Status.QUEUED, count)).label("own_before")


# Made once: to build it takes longer than to run it.
_OWN_BEFORE = _own_before(*(bindparam(f"its_{name}") for name in ("queue", "owner", "rank", "id")))


class Line:
    """The queues as people see them; one for all requests of a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._census: _Census | None = None
        self._at = 0.0
        self._added = 0

    def _look(self, session: Asked) -> _Census:
        with self._lock:
            if self._census is None or time.monotonic() - self._at > KEPT_SECONDS:
                self._census = _Census(session)
                self._at = time.monotonic()
                self._added = 0
            return self._census

    def check_room(self, session: Session, more: int) -> None:
        """Raises `QueuesFull` where the whole service has as many jobs waiting as it may."""
        limit = self._settings.queued_jobs_limit
        waiting = self._look(session).jobs
        with self._lock:
            if waiting + self._added + more > limit:
                raise QueuesFull(
                    f"{waiting + self._added:,} jobs wait in this service already, this would add "
                    f"{more}, and at most {limit:,} may. Nothing was queued; try again later "
                    "(setting SECATEUR_QUEUED_JOBS_LIMIT)."
                )
            self._added += more

    def position(self, session: Asked, row: JobRow) -> int | None:
        """Jobs that are expected to start before a waiting one; None when it does not wait.

        The owner's own are counted exactly. Of others' it takes how many each has, not which:
        those of higher priority go first, and among equals owners take turns.
        """
        if row.state != Status.QUEUED:
            return None
        # Whoever read the job may have counted with it.
        ahead = getattr(row, "own_before", None)
        if ahead is None:
            asked = {"its_" + name: getattr(row, name) for name in ("queue", "owner", "rank", "id")}
            ahead = session.scalar(_OWN_BEFORE, asked) or 0
        census = self._look(session)
        return ahead + sum(
            _before(census, other, row, ahead)
            for queue, other in census.owners
            if queue == row.queue and other != row.owner
        )

    def reason(self, session: Asked, row: JobRow) -> str | None:
        """Why a waiting job will not start soon: no living worker can take it."""
        if row.state != Status.QUEUED:
            return None
        return self.nobody(session, row.queue, row.memory_bytes)

    def nobody(self, session: Asked, queue: Any, memory_bytes: int) -> str | None:
        """What to tell where no living worker serves this queue with so much memory."""
        for queues, memory in self._look(session).serving:
            if queue in queues and memory_bytes <= memory:
                return None
        return no_worker(queue, memory_bytes)


def _before(census: _Census, other: str, row: JobRow, ahead: int) -> int:
    theirs, mine = census.owners[row.queue, other], census.owners.get((row.queue, row.owner))
    higher = sum(n for p, n in theirs.by_priority.items() if p > row.priority)
    first = theirs.since < (mine.since if mine else row.queued_at)
    turns = ahead + census.running[row.owner] - census.running[other] + first
    return higher + min(max(turns, 0), theirs.by_priority[row.priority])
