"""Many who follow jobs ask the database once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event

from app.services import events
from app.services.watching import LOOK_SECONDS, Watch
from tests.app.services.conftest import World


def record(world: World, job: str) -> None:
    with world.database.write() as session:
        events.record(session, job, "note", {})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_two_hundred_listeners_are_woken_by_few_statements(world: World) -> None:
    first, second = world.job(), world.job()
    said: list[Any] = []

    async def follow() -> list[bool]:
        watch = Watch(world.database)
        waits = [watch.changed(job, 1, 10.0) for job in (first, second) for _ in range(100)]
        tasks = [asyncio.create_task(wait) for wait in waits]
        await asyncio.sleep(2.5 * LOOK_SECONDS)
        assert not any(task.done() for task in tasks)
        record(world, first)
        await asyncio.wait(tasks, timeout=4 * LOOK_SECONDS)
        assert [task.done() for task in tasks] == [True] * 100 + [False] * 100
        event.remove(world.database.engine, "before_cursor_execute", listen)
        record(world, second)
        return await asyncio.gather(*tasks)

    def listen(*arguments: Any) -> None:
        said.append(arguments[2])

    event.listen(world.database.engine, "before_cursor_execute", listen)
    assert all(asyncio.run(follow()))
    assert sum("last_event" in statement and "IN (" in statement for statement in said) < 12


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_waiting_ends_by_itself_and_with_the_job(world: World) -> None:
    job = world.job()
    world.jobs.cancel(job)

    async def follow() -> tuple[bool, bool, bool]:
        watch = Watch(world.database)
        past = await watch.changed(job, 1, 10.0)
        silent = await watch.changed(job, 2, 2 * LOOK_SECONDS)
        world.jobs.delete(job)
        return past, silent, await watch.changed(job, 2, 10.0)

    assert asyncio.run(follow()) == (True, False, True)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_leaves_is_forgotten(world: World) -> None:
    async def leave() -> int:
        watch = Watch(world.database)
        task = asyncio.create_task(watch.changed(world.job(), 1, 10.0))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert watch._task is not None
        assert watch._task.done()
        return len(watch._waiting)

    assert asyncio.run(leave()) == 0
