"""What services do to a job is what the model does: in sequence, and in concurrent histories."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from app.adapters.database import Database, EventRow, JobRow
from app.adapters.store import FolderStore
from app.domain.errors import NotFound, Unavailable, WrongState
from app.domain.job import Attempt, Progress, Status
from app.services import lifecycle
from app.services.lifecycle import LeaseLost
from tests.app.services.conftest import LEASE_SECONDS, World, world_on
from tests.app.services.job_model import Done, JobModel, Operation, linearizable, step
from tests.workers.test_supervise import SilentQueue

THREADS, OPERATIONS, TRIALS = 4, 5, 20
USERS = ("cancel", "retry", "delete")
WORKERS = ("claim", "heartbeat", "report", "finish", "hand_back", "postpone", "expire", "reap")


class Actual:
    """The services, by the model's operations, on one job."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.job = world.job()
        self._template = lifecycle.claim(world.database, world.job(), "template", LEASE_SECONDS)

    def attempt(self, fence: int) -> Attempt:
        """Whoever holds, held, or will never hold this fence."""
        assert self._template is not None
        return self._template.model_copy(update={"job": self.job, "fence": fence})

    def do(self, operation: Operation) -> Any:
        try:
            return getattr(self, f"_{operation.name}")(operation)
        except (NotFound, WrongState, LeaseLost) as error:
            return type(error).__name__

    def model(self) -> JobModel:
        """The job's row, as the model has it."""
        with self.world.database.read() as session:
            row = session.get(JobRow, self.job)
            if row is None:
                return JobModel(state="gone")
            expired = row.state == "running" and row.lease_expires_at < 1.0
            return JobModel(
                row.state, row.fence, row.attempts_allowed, row.cancel_requested, expired
            )

    def events(self) -> list[int]:
        with self.world.database.read() as session:
            return list(
                session.scalars(
                    select(EventRow.id).where(EventRow.job_id == self.job).order_by(EventRow.id)
                )
            )

    def _cancel(self, _: Operation) -> str:
        return str(self.world.jobs.cancel(self.job).status)

    def _retry(self, _: Operation) -> str:
        return str(self.world.jobs.retry(self.job).status)

    def _delete(self, _: Operation) -> None:
        self.world.jobs.delete(self.job)

    def _claim(self, _: Operation) -> int | None:
        attempt = lifecycle.claim(self.world.database, self.job, "w", LEASE_SECONDS)
        return attempt.fence if attempt else None

    def _heartbeat(self, operation: Operation) -> bool:
        attempt = self.attempt(operation.fence)
        return lifecycle.heartbeat(self.world.database, attempt, LEASE_SECONDS)

    def _report(self, operation: Operation) -> None:
        progress = Progress(phase="loading", share=0.5)
        attempt = self.attempt(operation.fence)
        lifecycle.report(self.world.database, attempt, progress, [("note", {})])

    def _finish(self, operation: Operation) -> str:
        attempt = self.attempt(operation.fence)
        return str(lifecycle.finish(self.world.database, attempt, Status(operation.status)))

    def _hand_back(self, operation: Operation) -> None:
        lifecycle.hand_back(self.world.database, self.attempt(operation.fence), "It shuts down.")

    def _postpone(self, operation: Operation) -> None:
        error = Unavailable("The store is away.")
        lifecycle.postpone(self.world.database, self.attempt(operation.fence), error)

    def _expire(self, _: Operation) -> None:
        with self.world.database.write() as session:
            session.execute(
                update(JobRow)
                .where(JobRow.id == self.job, JobRow.state == "running")
                .values(lease_expires_at=0.0)
                .execution_options(synchronize_session=False)
            )

    def _reap(self, _: Operation) -> bool:
        return self.job in lifecycle.reap(self.world.database)


@pytest.fixture
def quiet(database: Database, store: FolderStore, tmp_path: Any) -> World:
    """Announcements would only slow it."""
    return world_on(database, store, SilentQueue(), tmp_path)


def test_any_sequence_does_what_the_model_does(quiet: World) -> None:
    class Machine(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.actual, self.model = Actual(quiet), JobModel()

        def both(self, operation: Operation) -> None:
            self.model, expected = step(self.model, operation)
            assert self.actual.do(operation) == expected, operation

        @rule(name=st.sampled_from((*USERS[:2], "claim", "expire", "reap")))
        def anybody(self, name: str) -> None:
            self.both(Operation(name))

        @rule(sure=st.sampled_from((False, False, True)))
        def delete(self, sure: bool) -> None:
            # Seldom where it succeeds: nothing happens to a job that is gone.
            if sure or self.model.state in ("queued", "running"):
                self.both(Operation("delete"))

        @rule(
            name=st.sampled_from(("heartbeat", "report", "finish", "hand_back", "postpone")),
            late=st.integers(0, 2),
            status=st.sampled_from(("succeeded", "failed", "cancelled")),
        )
        def attempt(self, name: str, late: int, status: str) -> None:
            self.both(Operation(name, max(self.model.fence - late, 0), status))

        @invariant()
        def rows_agree(self) -> None:
            if self.model.state == "gone":
                assert self.actual.model().state == "gone"
                return
            assert self.actual.model() == self.model
            numbers = self.actual.events()
            assert numbers == list(range(1, len(numbers) + 1))

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def concurrent_history(actual: Actual, seed: int) -> list[Done]:
    """Operations of several threads on one job; each begins when all are ready."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> list[Done]:
        choose = random.Random(seed * 100 + number)
        done = []
        barrier.wait()
        for _ in range(OPERATIONS):
            name = choose.choice(USERS[:2] if choose.random() < 0.4 else WORKERS)
            if choose.random() < 0.05:
                name = "delete"
            status = choose.choice(("succeeded", "failed", "cancelled"))
            operation = Operation(name, choose.randint(1, 3), status)
            began = time.monotonic()
            answer = actual.do(operation)
            done.append(Done(operation, began, time.monotonic(), answer))
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        return [done for part in pool.map(run, range(THREADS)) for done in part]


def test_concurrent_histories_are_linearizable(quiet: World) -> None:
    overlaps = 0
    for seed in range(TRIALS):
        actual = Actual(quiet)
        history = concurrent_history(actual, seed)
        last = actual.model()
        assert linearizable(history, last), told(seed, history, last)
        overlaps += _overlapping(history)
        numbers = actual.events()
        assert numbers == list(range(1, len(numbers) + 1))
    assert overlaps > TRIALS, "the threads have hardly met; nothing was shown"


def told(seed: int, history: list[Done], last: JobModel) -> str:
    """A history that no order explains, for people."""
    lines = [
        f"{1000 * done.began:.1f}–{1000 * done.ended:.1f}: {done.operation} → {done.answer}"
        for done in sorted(history, key=lambda done: done.began)
    ]
    return "\n".join([f"seed {seed}", *lines, f"at last {last}"])


def _overlapping(history: list[Done]) -> int:
    ordered = sorted(history, key=lambda done: done.began)
    return sum(b.began < a.ended for a, b in pairwise(ordered))


@pytest.mark.parametrize(
    ("answers", "last", "explained"),
    [
        ((1, "running"), JobModel("running", 1, 3, True), True),
        # Cancelled first, so nobody could have claimed it.
        ((1, "cancelled"), JobModel("cancelled", 0, 3, True), False),
        ((None, "cancelled"), JobModel("cancelled", 0, 3, True), True),
        # The answers are explained, the last state is not.
        ((1, "running"), JobModel("succeeded", 1, 3, True), False),
    ],
)
def test_the_checker_tells_histories_apart(
    answers: tuple[Any, Any], last: JobModel, explained: bool
) -> None:
    claim, cancel = (Operation(name) for name in ("claim", "cancel"))
    both = [Done(claim, 0.0, 2.0, answers[0]), Done(cancel, 1.0, 3.0, answers[1])]
    assert linearizable(both, last) is explained
    # One after the other: what has ended comes first.
    apart = [Done(claim, 0.0, 1.0, None), Done(cancel, 2.0, 3.0, "cancelled")]
    assert not linearizable(apart, JobModel("cancelled", 0, 3, True))


def test_two_claims_of_one_job_are_no_history() -> None:
    claims = [Done(Operation("claim"), 0.0, 1.0, 1), Done(Operation("claim"), 0.0, 1.0, 1)]
    assert not linearizable(claims, JobModel("running", 1))
