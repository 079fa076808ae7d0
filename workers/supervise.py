"""The parent of a job's process: keeps the lease, relays what the child tells, ends it in time."""

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from app.adapters.database import Database
from app.domain.analysis import ModelAnalysis
from app.domain.base import Record
from app.domain.confinement import TITLES, Confinement
from app.domain.errors import (
    InternalError,
    JobError,
    SecateurError,
    TimeLimitReached,
    Unavailable,
    Unconfined,
)
from app.domain.job import (
    ArtifactFile,
    Attempt,
    Checkpoint,
    JobKind,
    Order,
    Progress,
    Status,
)
from app.domain.metrics import Metrics, Plan
from app.domain.ports import Store
from app.observe import traces
from app.services import lifecycle
from app.services.lifecycle import LeaseLost
from app.settings import Settings
from workers import disk
from workers.endings import from_exit_status
from workers.heart import Cancelled, Heart
from workers.parent import Child
from workers.phases import Phases
from workers.protocol import (
    TALK_LIMIT_BYTES,
    Done,
    Problem,
    Ready,
    Refused,
    Saved,
    Spent,
    Told,
    parse,
)
from workers.storing import Storage, Untrusted

START_SECONDS = 120.0
"""For importing TensorFlow, on a slow disk."""
DISK_SECONDS = 1.0
RESULTS: dict[JobKind, type[Record]] = {
    "prune": Metrics,
    "plan": Plan,
    "analysis": ModelAnalysis,
}
LOG_TAIL_BYTES = 4000
ENDING_SECONDS = 3600.0
"""The longest that fetching inputs and storing results may take beside the job's own time."""
DATABASE_SECONDS = 60.0
"""How long a database that is away is waited for, each time it is needed."""
PAUSE_SECONDS = 0.2

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Draining(Exception):
    """The worker shuts down; the job goes back into the queue."""


class Supervisor:
    """Carries out one attempt with one child."""

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        attempt: Attempt,
        child: Child,
        draining: Callable[[], bool],
    ) -> None:
        self.database = database
        self.settings = settings
        self.attempt = attempt
        self.child = child
        self.draining = draining
        self._storage = Storage(database, store, settings, attempt, child, self._listen)
        self._progress: Progress | None = None
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._checkpoint: Checkpoint | None = attempt.checkpoint
        self._confinement: Confinement | None = None
        self._phases = Phases()
        self._over = False
        self._heard_bytes = 0
        self._told = self._measured = time.monotonic()
        left = attempt.time_limit_seconds - attempt.seconds_used
        self._left = max(left, 0.0)
        # The job's own time starts when its process is ready to work on it.
        self._deadline = time.monotonic() + self._left + START_SECONDS
        self._heart = Heart(
            database,
            attempt,
            settings.lease_seconds,
            settings.heartbeat_seconds,
            self._left + START_SECONDS + ENDING_SECONDS,
        )

    def run(self) -> Status | None:
        """Until the attempt has ended; None when it is not ours to end."""
        attributes: traces.Attributes = {
            "secateur.job": self.attempt.job,
            "secateur.attempt": self.attempt.fence,
            "secateur.kind": self.attempt.kind,
        }
        with traces.span("attempt", "consumer", self.attempt.traceparent, attributes) as span:
            try:
                ended = self._held()
            finally:
                self._phases.cut_off()
            span.tell(secateur__outcome=str(ended or "not ours"))
            if ended is Status.FAILED:
                span.failed("the job failed")
        return ended

    def _held(self) -> Status | None:
        with self._heart:
            try:
                return self._attempted()
            except Draining:
                self.child.kill()
                reason = "The worker shut down."
                self._persist(lambda: lifecycle.hand_back(self.database, self.attempt, reason))
            except LeaseLost:
                self.child.kill()
                self._storage.forget_unpublished()
                log.warning("lease_lost")
            except Unavailable as error:
                # Nothing is wrong with the job: another attempt may find what was away.
                self.child.kill()
                log.warning("postponed", reason=error.detail)
                lifecycle.postpone(self.database, self.attempt, error)
        return None

    def _attempted(self) -> Status | None:
        status, error = Status.FAILED, None
        try:
            return self._end(Status.SUCCEEDED, done=self._carry_out())
        except Cancelled:
            status = Status.CANCELLED
        except _Refusal as refusal:
            error = refusal.problem
        except Untrusted as untrusted:
            error = InternalError(str(untrusted)).as_problem()
        except Unavailable:
            raise
        except SecateurError as failure:
            error = failure.as_problem()
        self._over = True
        self._storage.hurry()
        return self._end(status, error=error)

    def _listen(self) -> None:
        """What may end the attempt from outside. Raises `Draining`, `Cancelled`, `LeaseLost`."""
        if self.draining():
            raise Draining
        if self._over:
            self._heart.check_lease()
        else:
            self._heart.check()

    def _persist(self, write: Callable[[], T]) -> T:
        """Repeat a step in the database while that is away. Raises `LeaseLost`, `Unavailable`."""
        deadline = time.monotonic() + DATABASE_SECONDS
        while True:
            try:
                return write()
            except Unavailable:
                self._heart.check_lease()
                if time.monotonic() > deadline:
                    raise
            # Without a look at the lease: a commit whose answer was lost has ended it too.
            time.sleep(PAUSE_SECONDS)

    # --- carrying out ----------------------------------------------------------------------
    def _carry_out(self) -> Done:
        while True:
            try:
                lines = self.child.read(min(0.2, self.settings.heartbeat_seconds))
                for line in lines or []:
                    if (done := self._hear(line)) is not None:
                        self._tell(force=True)
                        return done
            except ValueError as error:
                raise InternalError(
                    f"The job's process wrote what it must not: {str(error)[:1000]}"
                ) from error
            self._tick()
            if lines is None:
                raise self._crash()

    def _ready(self, confinement: Confinement) -> None:
        """The child is confined, or the job is refused; only then does it get any file."""
        if self._confinement is not None:
            return  # Said twice: the first word holds, for nothing had been sent before it.
        missing = confinement.missing
        if missing and not self.settings.allow_unconfined:
            reasons = "; ".join(
                f"{TITLES[name]}: {confinement.of(name).detail}" for name in missing
            )
            raise Unconfined(
                f"This worker cannot confine jobs, so it runs none. Missing is {reasons}. Its "
                "operator can run it where these work, or accept the risk with "
                "SECATEUR_ALLOW_UNCONFINED=true, which results will say."
            )
        self._confinement = confinement.model_copy(update={"overridden": bool(missing)})
        self._deadline = time.monotonic() + self._left
        self._phases.since_start("starting")
        with self._phases.own("fetching"):
            order = self._order()
        self.child.order(order.model_dump_json())

    def _order(self) -> Order:
        """Fetch what the job needs into the child's folder; every hash is checked."""
        attempt, folder = self.attempt, self.child.folder
        model = folder / f"model.{attempt.model.format}"
        self._storage.hand_over(attempt.model_key, attempt.model_sha256, model)
        dataset = checkpoint = None
        # A dry run looks at data only where the choice depends on it.
        needed = attempt.kind == "prune" or attempt.spec.prune.needs_data
        if attempt.dataset_key and attempt.dataset_sha256 and needed:
            dataset = folder / "dataset"
            self._storage.hand_over(attempt.dataset_key, attempt.dataset_sha256, dataset)
        if attempt.checkpoint is not None:
            checkpoint = folder / "checkpoint.zip"
            self._storage.hand_over(attempt.checkpoint.key, attempt.checkpoint.sha256, checkpoint)
        return Order(
            job=attempt.job,
            kind=attempt.kind,
            attempt=attempt.fence,
            spec=attempt.spec,
            model=attempt.model,
            model_path=str(model),
            dataset=attempt.dataset,
            dataset_path=str(dataset) if dataset else None,
            checkpoint_path=str(checkpoint) if checkpoint else None,
            out=str(self.child.out),
            scratch=str(self.child.scratch),
            confinement=self._confinement or Confinement(),
        )

    def _hear(self, line: bytes) -> Done | None:
        self._heard_bytes += len(line)
        if self._heard_bytes > TALK_LIMIT_BYTES:
            raise ValueError(f"more than {TALK_LIMIT_BYTES} bytes of messages")
        message = parse(line)
        if self._confinement is None and not isinstance(message, Ready):
            raise ValueError(f"{message.type} before ready")
        match message:
            case Ready(confinement=confinement):
                self._ready(confinement)
            case Told(progress=progress, kind=kind, data=data):
                self._progress = progress or self._progress
                if kind is not None:
                    self._events.append((kind, data))
                if kind == "phase":
                    self._phases.enter(data.get("phase"))
                    log.info("phase", phase=str(data.get("phase"))[:32])
            case Spent(phase=phase, began=began, ended=ended):
                self._phases.spent(phase, began, ended)
            case Saved():
                self._keep(message)
            case Refused(problem=problem):
                raise _Refusal(problem)
            case Done():
                return self._checked(message)
        return None

    def _checked(self, done: Done) -> Done:
        """The result as its type, which everybody who asks for it will read it as; what confined
        the job is told in the parent's words. Raises `ValueError`."""
        told = done.result
        if self.attempt.kind == "prune" and self._confinement is not None:
            told = told | {"confinement": self._confinement.model_dump(mode="json")}
        found = RESULTS[self.attempt.kind].model_validate(told)
        return done.model_copy(update={"result": found.model_dump(mode="json", by_alias=True)})

    def _keep(self, saved: Saved) -> None:
        """Store a checkpoint, then make it the one to resume from, then forget the last."""
        checkpoint = self._storage.checkpoint(saved)
        if checkpoint is None:
            return
        self._persist(lambda: lifecycle.keep_checkpoint(self.database, self.attempt, checkpoint))
        if self._checkpoint is not None and self._checkpoint.key != checkpoint.key:
            self._storage.forget(self._checkpoint.key)
        self._checkpoint = checkpoint

    # --- keeping ---------------------------------------------------------------------------
    def _tick(self) -> None:
        now = time.monotonic()
        self._listen()
        if now > self._deadline:
            raise TimeLimitReached(
                f"The job ran longer than its limit of {self.attempt.time_limit_seconds:g} s. "
                "Ask for fewer epochs, or for a higher time_limit_seconds; a retry has the whole "
                "time again"
                + (" and goes on from the last checkpoint." if self._checkpoint else ".")
            )
        if now - self._measured >= DISK_SECONDS:
            disk.check(self.child.folder, self.settings.job_disk_bytes)
            self._measured = time.monotonic()
        self._tell()

    def _tell(self, force: bool = False) -> None:
        """Write what the child told, at most about twice a second."""
        now = time.monotonic()
        if not self._events or (now - self._told < 0.4 and not force):
            return
        happened = _without_stale_progress(self._events)
        try:
            lifecycle.report(self.database, self.attempt, self._progress, happened)
        except Unavailable:
            return
        self._events.clear()
        self._told = now

    # --- ending ----------------------------------------------------------------------------
    def _crash(self) -> JobError:
        status = self.child.exit_status()
        limits, seconds = self.child.limits, self.child.cpu_seconds
        return from_exit_status(status, self._log_tail(), limits, seconds)

    def _log_tail(self) -> str:
        with self.child.log.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES, 0))
            return log.read(LOG_TAIL_BYTES).decode("utf-8", "replace").strip()

    def _end(
        self,
        status: Status,
        done: Done | None = None,
        error: dict[str, Any] | None = None,
    ) -> Status | None:
        # From here on the files are what they are: nobody is left to exchange them.
        self.child.end()
        self._phases.cut_off()
        with self._phases.own("publishing"):
            files = self._storage.publish(done)
        result = done.result if done else None
        ended = self._persist(lambda: self._finish(status, result, error, files))
        if ended is not Status.SUCCEEDED:
            self._storage.forget_unpublished()
        elif self._checkpoint is not None:
            self._storage.forget(self._checkpoint.key)
        return ended

    def _finish(
        self,
        status: Status,
        result: dict[str, Any] | None,
        error: dict[str, Any] | None,
        files: list[ArtifactFile],
    ) -> Status:
        database, attempt = self.database, self.attempt
        try:
            return lifecycle.finish(
                *(database, attempt, status),
                result=result,
                error=error,
                artifacts=files,
                phases=self._phases.seconds,
            )
        except LeaseLost:
            if lifecycle.has_succeeded(database, attempt):
                return Status.SUCCEEDED
            raise


class _Refusal(Exception):
    """The child said why the job cannot be carried out; passed on, cut to a bearable length."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        told = problem.model_dump(exclude_unset=True, exclude_none=True, exclude={"errors"})
        self.problem = InternalError("").as_problem() | {
            key: value[:4000] if isinstance(value, str) else value for key, value in told.items()
        }


def _without_stale_progress(
    told: list[tuple[str, dict[str, Any]]],
) -> list[tuple[str, dict[str, Any]]]:
    """Of several progress events waiting to be written, only the newest is news."""
    last = max((i for i, (kind, _) in enumerate(told) if kind == "progress"), default=-1)
    return [event for i, event in enumerate(told) if event[0] != "progress" or i == last]
