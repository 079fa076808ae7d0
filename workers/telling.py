"""What a job says while it runs: phases and their seconds, places, notes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workers.pace import Pace
from workers.protocol import Reporter


class Telling:
    """A job's voice."""

    def __init__(self, reporter: Reporter, pace: Pace) -> None:
        self.reporter = reporter
        self.pace = pace
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        """By phase, so far."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say where the job is, and count the time until it is elsewhere."""
        started, began = time.perf_counter(), time.time()
        self.reporter.happened("phase", {"phase": name}, self.pace.at(name))
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self.reporter.spent(name, began, began + spent)

    def tell(self, **where: Any) -> None:
        """Say how far the job is within its phase."""
        self.reporter.at(self.pace.at(self.pace.phase, **where))

    def note(self, text: str) -> None:
        """Say, once, what was decided on the user's behalf."""
        if text not in self.notes:
            self.notes.append(text)
            self.reporter.happened("note", {"text": text})
