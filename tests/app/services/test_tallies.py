"""What is counted of jobs: once, with what it counts, by whoever does it."""

import threading
from typing import Any

import pytest
from sqlalchemy import select

from app.adapters.database import CounterRow, Database
from app.domain.job import Status
from app.services import lifecycle, tallies
from tests.app.services.conftest import World


def counted(database: Database) -> dict[tuple[str, str], float]:
    with database.read() as session:
        return {(row.name, row.labels): row.value for row in session.scalars(select(CounterRow))}


def ended(outcome: str) -> tuple[str, str]:
    return "secateur_jobs_ended", f'{{"kind": "prune", "outcome": "{outcome}"}}'


KIND = '{"kind": "prune"}'


def test_an_attempt_is_counted_from_its_claim_to_its_end(world: World) -> None:
    attempt = world.attempt()
    phases = {"loading": 2.0, "fine-tuning": 70.0, "made-up": 1.0}
    lifecycle.finish(world.database, attempt, Status.SUCCEEDED, phases=phases)
    found = counted(world.database)
    assert found[ended("succeeded")] == 1
    assert found["secateur_attempts_started", KIND] == 1
    assert found["secateur_job_phase_seconds", '{"le": "300", "phase": "fine-tuning"}'] == 1
    assert found["secateur_job_phase_seconds_sum", '{"phase": "fine-tuning"}'] == 70
    assert found["secateur_job_phase_seconds", '{"le": "1", "phase": "other"}'] == 1
    assert found["secateur_job_wait_seconds_sum", KIND] >= 0


@pytest.mark.parametrize(
    ("problem", "label"),
    [("/problems/crashed", "crashed"), ("/problems/anything-else", "other"), (None, "other")],
)
def test_failures_are_counted_by_problems_that_we_know(
    world: World, problem: str | None, label: str
) -> None:
    error: dict[str, Any] = {"type": problem} if problem else {}
    lifecycle.finish(world.database, world.attempt(), Status.FAILED, error=error)
    found = counted(world.database)
    assert found["secateur_job_failures", f'{{"kind": "prune", "problem": "{label}"}}'] == 1
    assert found[ended("failed")] == 1


def test_a_lost_worker_is_counted_by_whoever_finds_it(world: World) -> None:
    by_the_reaper, by_a_claim = world.attempt(), world.attempt()
    world.lose_worker(by_the_reaper.job)
    assert lifecycle.reap(world.database) == (by_the_reaper.job,)
    world.lose_worker(by_a_claim.job)
    world.attempt(by_a_claim.job, "two")
    assert counted(world.database)["secateur_attempts_lost", KIND] == 2


def test_the_last_lost_attempt_is_a_failure_too(world: World) -> None:
    attempt = world.attempt()
    world.change(attempt.job, attempts_allowed=1)
    world.lose_worker(attempt.job)
    lifecycle.reap(world.database)
    found = counted(world.database)
    assert found[ended("failed")] == 1
    labels = '{"kind": "prune", "problem": "attempts-exhausted"}'
    assert found["secateur_job_failures", labels] == 1


def test_cancelled_jobs_are_counted_wherever_they_are(world: World) -> None:
    world.jobs.cancel(world.job())
    running = world.attempt()
    world.jobs.cancel(running.job)
    lifecycle.hand_back(world.database, running, "The worker shut down.")
    found = counted(world.database)
    assert found[ended("cancelled")] == 2
    assert found["secateur_attempts_handed_back", KIND] == 1


def test_what_is_rolled_back_is_not_counted(world: World) -> None:
    def fail() -> None:
        with world.database.write() as session:
            tallies.count(session, tallies.ROUNDS, "ok")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with world.database.write() as session:
        tallies.count(session, tallies.ROUNDS, "failed")
    rounds = {labels for name, labels in counted(world.database) if name == tallies.ROUNDS.name}
    assert rounds == {'{"outcome": "failed"}'}


def test_many_at_once_lose_no_count(database: Database) -> None:
    def add() -> None:
        for _ in range(10):
            with database.write() as session:
                # In orders that would wait for each other, were they written as they come.
                for tally in (tallies.LOST, tallies.ATTEMPTS, tallies.LOST):
                    tallies.count(session, tally, "prune")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = counted(database)
    assert found["secateur_attempts_lost", KIND] == 80
    assert found["secateur_attempts_started", KIND] == 40


def test_a_time_on_the_edge_belongs_below(database: Database) -> None:
    with database.write() as session:
        for seconds in (0.1, 0.1001, 1e6, -1.0):
            tallies.observe(session, tallies.WAITS, seconds, "prune")
    found = counted(database)
    buckets = {labels: n for (name, labels), n in found.items() if name == tallies.WAITS.name}
    assert buckets == {
        '{"kind": "prune", "le": "0.1"}': 2,
        '{"kind": "prune", "le": "0.5"}': 1,
        '{"kind": "prune", "le": "+Inf"}': 1,
    }
