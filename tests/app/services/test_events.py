"""Events are numbered from 1 without gaps, whoever writes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import StatementError

from app.services import events, lifecycle
from tests.app.services.conftest import World


def test_concurrent_writers_leave_no_gap(world: World) -> None:
    attempt = world.attempt()
    barrier = threading.Barrier(6)

    def write(writer: int) -> None:
        barrier.wait()
        for number in range(10):
            lifecycle.report(
                world.database, attempt, None, [("note", {"writer": writer, "number": number})]
            )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    found = events.after(world.database, attempt.job, 0)
    assert [event.id for event in found] == list(range(1, 63))
    for writer in range(6):
        own = [event.data["number"] for event in found if event.data.get("writer") == writer]
        assert own == list(range(10))


def test_a_reader_who_has_seen_an_event_has_seen_all_before_it(world: World) -> None:
    attempt = world.attempt()
    stop = threading.Event()

    def write(_: int) -> None:
        while not stop.is_set():
            lifecycle.report(world.database, attempt, None, [("note", {}), ("note", {})])

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        seen: list[int] = []
        try:
            while len(seen) < 40:
                seen += [e.id for e in events.after(world.database, attempt.job, len(seen))]
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert seen == list(range(1, len(seen) + 1))


def test_jobs_are_numbered_apart(world: World) -> None:
    one, two = world.attempt(), world.attempt()
    assert [event.id for event in events.after(world.database, one.job, 0)] == [1, 2]
    assert [event.id for event in events.after(world.database, two.job, 0)] == [1, 2]


def test_a_page_is_limited(world: World) -> None:
    attempt = world.attempt()
    lifecycle.report(world.database, attempt, None, [("note", {})] * 8)
    assert [e.id for e in events.after(world.database, attempt.job, 3, limit=4)] == [4, 5, 6, 7]


def test_an_event_of_a_refused_write_is_not_kept(world: World) -> None:
    attempt = world.attempt()
    no_json = {"set": {1}}
    with pytest.raises((StatementError, TypeError)):
        lifecycle.report(world.database, attempt, None, [("note", {}), ("note", no_json)])
    assert world.events(attempt.job) == ["queued", "running"]
