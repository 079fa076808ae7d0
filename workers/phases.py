"""Where an attempt's time goes, as its supervisor sees it: spans of a trace, and counted seconds.

The job's process says when a phase was over, and is not believed more than it must be: names that
are not known become `other`, times are trimmed to what the attempt has had, and so many phases
are heard and no more.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.observe import traces
from app.services.tallies import OTHER, PHASES

MOST = 1000
"""Of an attempt; a schedule of 100 cuts has some 400."""


class Phases:
    """Of one attempt."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.time()
        self._heard = 0
        self._open: tuple[str, float] | None = None

    def enter(self, name: object) -> None:
        """The job's process says that it begins a phase."""
        self._open = (_known(name), time.time())

    def spent(self, name: str, began: float, ended: float) -> None:
        """The job's process says that a phase is over."""
        self._open = None
        self._heard += 1
        if self._heard > MOST:
            return
        now = time.time()
        began = min(max(began, self._began), now)
        self._note(_known(name), began, min(max(ended, began), now))

    @contextmanager
    def own(self, name: str) -> Iterator[None]:
        """A phase of the worker itself."""
        began = time.time()
        try:
            yield
        finally:
            self._note(name, began, time.time())

    def since_start(self, name: str) -> None:
        """What lasted from the attempt's start until now is over."""
        self._note(name, self._began, time.time())

    def cut_off(self) -> None:
        """The process is gone: the phase it was in ends here, unfinished."""
        if self._open is not None:
            (name, began), self._open = self._open, None
            self._note(name, began, time.time(), finished=False)

    def _note(self, name: str, began: float, ended: float, *, finished: bool = True) -> None:
        # Clocks may be set back while a job runs.
        ended = max(began, ended)
        self.seconds[name] = self.seconds.get(name, 0.0) + ended - began
        traces.past(name, began, ended, {"secateur.finished": finished})


def _known(name: object) -> str:
    return name if isinstance(name, str) and name in PHASES else OTHER
