"""One key, one creation; the first answer is replayed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from app.adapters.database import JobRow
from app.adapters.database.tables import IdempotencyRow
from app.domain.errors import IdempotencyConflict, InvalidSpec
from app.services.dispatch import Reaper
from tests.app.services.conftest import World, spec


def jobs(world: World) -> int:
    with world.database.read() as session:
        return session.scalar(select(func.count()).select_from(JobRow)) or 0


def test_a_repetition_is_answered_with_the_first_answer(world: World) -> None:
    first = world.jobs.submit(spec(), "key")
    world.jobs.cancel(first.body["id"])
    again = world.jobs.submit(spec(), "key")
    assert again.replayed
    assert not first.replayed
    assert (again.status, again.location, again.body) == (202, first.location, first.body)
    assert jobs(world) == 1


def test_a_repetition_is_not_announced_again(world: World) -> None:
    world.jobs.submit(spec(), "key")
    depth = world.queue.depth("jobs")
    world.jobs.submit(spec(), "key")
    assert world.queue.depth("jobs") == depth


def test_the_same_spec_written_in_another_way_is_a_repetition(world: World) -> None:
    world.jobs.submit(spec(schedule="one_shot"), "key")
    assert world.jobs.submit(spec(schedule={"kind": "one_shot"}), "key").replayed


def test_another_request_under_the_key_is_refused(world: World) -> None:
    world.jobs.submit(spec(), "key")
    with pytest.raises(IdempotencyConflict) as caught:
        world.jobs.submit(spec(seed=1), "key")
    assert caught.value.field == "Idempotency-Key"
    assert jobs(world) == 1


def test_without_a_key_each_request_creates(world: World) -> None:
    assert world.job() != world.job()


def test_concurrent_requests_with_one_key_create_one(world: World) -> None:
    barrier = threading.Barrier(8)

    def submit(_: int) -> tuple[str, bool]:
        barrier.wait()
        answer = world.jobs.submit(spec(), "key")
        return str(answer.body["id"]), answer.replayed

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    assert len({id_ for id_, _ in answers}) == 1
    assert [replayed for _, replayed in answers].count(False) == 1
    assert jobs(world) == 1


def test_a_refused_request_does_not_use_up_its_key(world: World) -> None:
    with pytest.raises(InvalidSpec):
        world.jobs.submit(spec(model="mdl_none"), "key")
    assert not world.jobs.submit(spec(), "key").replayed


def test_a_key_is_forgotten_after_a_day(world: World) -> None:
    world.jobs.submit(spec(), "old")
    world.jobs.submit(spec(), "young")
    with world.database.write() as session:
        session.execute(
            update(IdempotencyRow)
            .where(IdempotencyRow.key == "old")
            .values(created_at=func.clock() - 24 * 3600 - 1)
        )
    Reaper(world.database, world.store, world.queue, world.settings).round()
    assert not world.jobs.submit(spec(), "old").replayed
    assert world.jobs.submit(spec(), "young").replayed
