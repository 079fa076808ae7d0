"""What many ask at the same time is asked once, of a database that is a network away."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from anyio import to_thread

MOST_AT_ONCE = 100
"""Of one statement."""

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class Together(Generic[Key, Found]):
    """Looks things up in a thread, one look at a time; who asks meanwhile shares the next.

    A look begins after all who share it have asked, so each sees what was there before. Under load
    looks become larger instead of threads more, which would compete for the interpreter. Of one
    event loop.

    Args:
        look: what is there of what was asked for; blocks.
    """

    def __init__(self, look: Callable[[Sequence[Key]], Mapping[Key, Found]]) -> None:
        self._look = look
        self._waiting: list[tuple[Key, asyncio.Future[Found | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: Key) -> Found | None:
        """What is there, None where nothing is. Raises what the look raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found | None] = loop.create_future()
        self._waiting.append((key, answer))
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            keys = list(dict.fromkeys(key for key, _ in some))
            look = asyncio.ensure_future(to_thread.run_sync(self._look, keys))
            await asyncio.wait([look])
            error = look.exception()
            for key, answer in some:
                if answer.done():
                    continue  # Whoever asked has gone away.
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(look.result().get(key))
