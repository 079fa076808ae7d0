"""Looks that are shared by all who ask while the last one runs."""

import asyncio
import threading
from collections.abc import Mapping, Sequence

import pytest

from app.domain.errors import Unavailable
from app.services.together import MOST_AT_ONCE, Together
from tests.app.services.conftest import World


class Slow:
    """A look that waits until it may end, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.there = {"a": 1, "b": 2}
        self.asked: list[list[str]] = []
        self.may_end = threading.Event()

    def __call__(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(keys))
        found = {key: self.there[key] for key in keys if key in self.there}
        assert self.may_end.wait(30)
        return found


async def begun(look: Slow, looks: int) -> None:
    while len(look.asked) < looks:
        await asyncio.sleep(0.001)


def test_who_asks_meanwhile_shares_the_next_look_and_sees_what_is_new() -> None:
    look = Slow()
    together = Together(look)

    async def ask() -> list[int | None]:
        first = asyncio.create_task(together.find("a"))
        await begun(look, 1)
        others = [asyncio.create_task(together.find(key)) for key in ("a", "b", "a", "c")]
        await asyncio.sleep(0.05)
        assert len(look.asked) == 1
        look.there["a"] = 3
        look.may_end.set()
        return [await first, *await asyncio.gather(*others)]

    assert asyncio.run(ask()) == [1, 3, 2, 3, None]
    assert look.asked == [["a"], ["a", "b", "c"]]


def test_who_went_away_is_no_matter_to_the_others() -> None:
    look = Slow()
    together = Together(look)

    async def ask() -> int | None:
        gone, stays = (asyncio.create_task(together.find(key)) for key in ("a", "b"))
        await begun(look, 1)
        gone.cancel()
        look.may_end.set()
        return await stays

    assert asyncio.run(ask()) == 2


def test_all_hear_of_a_failure_and_the_next_look_is_a_new_one() -> None:
    failures = [Unavailable("away")]

    def look(keys: Sequence[str]) -> Mapping[str, int]:
        if failures:
            raise failures.pop()
        return dict.fromkeys(keys, 1)

    together = Together(look)

    async def ask() -> list[int | BaseException | None]:
        return await asyncio.gather(*(together.find(key) for key in "ab"), return_exceptions=True)

    assert all(isinstance(each, Unavailable) for each in asyncio.run(ask()))
    assert asyncio.run(ask()) == [1, 1]


def test_looks_are_bounded() -> None:
    asked: list[int] = []

    def look(keys: Sequence[int]) -> Mapping[int, int]:
        asked.append(len(keys))
        return {key: key for key in keys}

    together = Together(look)
    wanted = list(range(2 * MOST_AT_ONCE + 1))

    async def ask() -> list[int | None]:
        return await asyncio.gather(*(together.find(key) for key in wanted))

    assert asyncio.run(ask()) == wanted
    assert max(asked) == MOST_AT_ONCE


def test_jobs_are_looked_at_for_whoever_owns_them(world: World) -> None:
    first, second = world.job(), world.job()
    owner = world.jobs.caller.owner
    asked = [(owner, first), (owner, second), ("somebody", first), (owner, "job_gone")]
    found = world.jobs.look(asked)
    assert set(found) == {(owner, first), (owner, second)}
    assert found[owner, second] == world.jobs.get(second)
    assert [found[owner, each].queue_position for each in (first, second)] == [0, 1]


@pytest.mark.parametrize("asked", [[], [("somebody", "job_gone")]])
def test_nothing_is_found_where_nothing_is(world: World, asked: list[tuple[str, str]]) -> None:
    assert world.jobs.look(asked) == {}
