"""Announcing queued jobs to workers, and the reaper that repeats it for the forgotten."""

import threading
import time
from collections import Counter
from importlib.metadata import version

import structlog
from sqlalchemy import delete, func, or_, select

from app.adapters.database import Database, JobRow, ModelRow
from app.adapters.database.tables import IdempotencyRow
from app.domain.errors import SecateurError, Unavailable
from app.domain.job import ENDED, Status
from app.domain.ports import Queue, Store
from app.domain.queues import QUEUES, QueueName
from app.observe import traces
from app.services import audit, lifecycle, tallies
from app.services.collecting import Collector
from app.services.sender import Sender
from app.settings import Settings

ANSWER_KEPT_SECONDS = 600.0
HOUSEKEEPING_SECONDS = 60.0
ROUNDS_TOLD_SECONDS = 15.0
ANNOUNCED_AT_ONCE = 1000
MARKED_SECONDS = 0.1
"""Much less than a reaper's round, which would announce again what is not marked."""
LAST_DELIVERIES_SECONDS = 2.0
"""At the end, for requests to webhooks that are on their way; the others are repeated."""

log = structlog.get_logger(__name__)


class Marks:
    """Notes which jobs were announced, soon and many at a time: a transaction for each would cost
    as much as the message.

    What is not noted when the process dies is announced again, as if it had died just before.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._jobs: list[str] = []
        self._thread: threading.Thread | None = None

    def add(self, *jobs: str) -> None:
        """Note these within `MARKED_SECONDS`; returns at once."""
        with self._lock:
            self._jobs.extend(jobs)
            if self._thread is None:
                self._thread = threading.Thread(target=self._soon, name="marks", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Note all now."""
        with self._lock:
            jobs, self._jobs = self._jobs, []
        try:
            for begin in range(0, len(jobs), ANNOUNCED_AT_ONCE):
                lifecycle.mark_dispatched(self._database, *jobs[begin : begin + ANNOUNCED_AT_ONCE])
        except Unavailable as error:
            log.warning("marks_failed", jobs=jobs[:10], reason=error.detail)
        except Exception:
            log.exception("marks_failed", jobs=jobs[:10])

    def _soon(self) -> None:
        while True:
            time.sleep(MARKED_SECONDS)
            self.flush()
            with self._lock:
                if not self._jobs:
                    self._thread = None
                    return


def dispatch(
    database: Database, queue: Queue, name: QueueName, *jobs: str, marks: Marks | None = None
) -> None:
    """Announce committed jobs of a queue, one message each, which names none of them.

    A broker that is away is no error: the reaper will repeat it. With `marks`, that it was done is
    noted a little later.
    """
    sent = []
    try:
        for job in jobs:
            with traces.span("dispatch", "producer", attributes={"secateur.job": job}):
                queue.wake(name)
            sent.append(job)
    except Unavailable as error:
        log.warning("dispatch_postponed", jobs=jobs[len(sent) :][:10], reason=error.detail)
    if sent and marks is not None:
        marks.add(*sent)
    elif sent:
        lifecycle.mark_dispatched(database, *sent)


class Reaper:
    """Brings back what was lost. Several may run: every step is conditional in the database."""

    def __init__(self, database: Database, store: Store, queue: Queue, settings: Settings) -> None:
        self.database = database
        self.store = store
        self.queue = queue
        self.settings = settings
        self.sender = Sender(database, settings)
        self._since_housekeeping = HOUSEKEEPING_SECONDS
        self._answered: float | None = None
        self._reap_from = 0.0
        self._rounds: Counter[str] = Counter()
        self._rounds_told = time.monotonic()
        self._collector = Collector(database, store, settings)
        self._collects = True

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; an error ends one round and never the loop."""
        # Listing a large store takes a while, in which no lease would be looked at.
        self._collects = False
        collecting = threading.Thread(target=self._collector.run, args=(stop,), name="collector")
        collecting.start()
        self._run(stop)
        collecting.join()

    def _run(self, stop: threading.Event) -> None:
        structlog.contextvars.bind_contextvars(part="reaper")
        while not stop.wait(self.settings.reaper_interval_seconds):
            outcome = "ok"
            # Webhooks need no broker, so one that is away must not hold them up.
            for part in (self.round, self.sender.round):
                try:
                    part()
                except SecateurError as error:
                    outcome = "failed"
                    log.warning("reaper_round_failed", reason=error.detail)
                except Exception:
                    outcome = "failed"
                    log.exception("reaper_round_failed")
            self._rounds[outcome] += 1
            self._tell_rounds()
        self.sender.wait(LAST_DELIVERIES_SECONDS)

    def _tell_rounds(self) -> None:
        """Count the rounds, now and then: a write for each would be the service's most frequent."""
        now = time.monotonic()
        if now - self._rounds_told < ROUNDS_TOLD_SECONDS:
            return
        self._rounds_told = now
        try:
            with self.database.write() as session:
                for outcome, number in self._rounds.items():
                    tallies.count(session, tallies.ROUNDS, outcome, by=number)
        except Unavailable:
            return  # The round has said so.
        self._rounds.clear()

    def round(self) -> None:
        """One look: lost leases, forgotten jobs, and now and then housekeeping."""
        if self._workers_could_renew():
            lifecycle.reap(self.database)
        for queue in QUEUES:
            self._redispatch(queue)
        self._since_housekeeping += self.settings.reaper_interval_seconds
        if self._since_housekeeping >= HOUSEKEEPING_SECONDS:
            self._since_housekeeping = 0.0
            self._housekeep()

    def _workers_could_renew(self) -> bool:
        """False for one lease after the database was away: no worker could renew its own then."""
        self.database.ping()
        now = time.monotonic()
        lease, interval = self.settings.lease_seconds, self.settings.reaper_interval_seconds
        if self._answered is not None and now - self._answered > max(lease / 2, 3 * interval):
            log.warning("reaping_postponed", silent_seconds=round(now - self._answered, 1))
            self._reap_from = now + lease
        self._answered = now
        return now >= self._reap_from

    def _redispatch(self, queue: QueueName) -> None:
        """Announce again what waits too long.

        Messages name no job, so that as many are missing as jobs wait beyond those messages that
        still wait in the broker: a long queue must not grow by its own length every few seconds.
        """
        if not self._forgotten(queue, at_most=1):
            return  # Without asking the broker, which may be away.
        if forgotten := self._forgotten(queue, skip=self.queue.depth(queue)):
            dispatch(self.database, self.queue, queue, *forgotten)

    def _forgotten(
        self, queue: QueueName, skip: int = 0, at_most: int = ANNOUNCED_AT_ONCE
    ) -> tuple[str, ...]:
        return lifecycle.undispatched(
            self.database,
            queue,
            self.settings.redispatch_seconds,
            self.settings.quota_running_jobs,
            skip=skip,
            at_most=at_most,
        )

    def _housekeep(self) -> None:
        with self.database.write() as session:
            session.execute(
                delete(IdempotencyRow).where(
                    IdempotencyRow.created_at
                    < func.clock() - self.settings.idempotency_hours * 3600
                )
            )
        self._forget_answers()
        audit.forget(self.database, self.settings.audit_days)
        self.sender.forget()
        if self._collects:
            self._collector.round()

    def _forget_answers(self) -> None:
        """Dry runs a while after their end, and analyses that no request will be answered with."""
        useless = or_(
            JobRow.kind == "plan",
            JobRow.state != Status.SUCCEEDED,
            JobRow.result["engine"].as_string() != version("secateur"),
            JobRow.model_id.not_in(select(ModelRow.id)),
        )
        with self.database.write() as session:
            forgotten = session.scalars(
                delete(JobRow)
                .where(
                    JobRow.kind.in_(("plan", "analysis")),
                    JobRow.state.in_(ENDED),
                    JobRow.updated_at < func.clock() - ANSWER_KEPT_SECONDS,
                    useless,
                )
                .returning(JobRow.id)
                .execution_options(synchronize_session=False)
            ).all()
        for id_ in forgotten:
            self.store.delete_prefix(f"jobs/{id_}")
