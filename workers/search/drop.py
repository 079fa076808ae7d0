"""The smallest model that is still good enough: halving between what was and what was not. Pure.

The quality of a model falls as less of it is kept, give or take noise. The first candidate lies in
the middle, on a logarithmic scale, between the original and the smallest share worth trying; each
further one between the smallest that was good enough and the largest below it that was not.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.domain.metrics import TrialFigure
from app.domain.prune import AccuracyDropTarget
from workers.evaluation.lost import at_most

SMALLEST = {"macs": 0.02, "parameters": 0.002}
"""Shares below are not tried; zeros go further than smaller layers."""
CLOSE = 1.05
"""Shares this near to each other, as a ratio, end the search."""


@dataclass(frozen=True)
class Tried:
    """A share that was kept, and whether the model was good enough."""

    keep: float
    fits: bool


def next_share(tried: Sequence[Tried], smallest: float) -> float | None:
    """The share to try next, None where nothing is left between the bounds."""
    good = min((each.keep for each in tried if each.fits), default=1.0)
    bad = max((each.keep for each in tried if not each.fits and each.keep < good), default=smallest)
    if good / bad < CLOSE:
        return None
    return math.sqrt(good * bad)


@dataclass
class Search:
    """What is known of a job's candidates, and which is next."""

    target: AccuracyDropTarget
    smallest: float
    trials: list[TrialFigure] = field(default_factory=list)
    given_up: list[float] = field(default_factory=list)
    """Shares whose candidates could not be made."""

    def fits(self, trial: TrialFigure) -> bool:
        """Whether a candidate has lost no more than asked, with 95 % confidence."""
        assert trial.interval is not None
        return at_most(trial.value, trial.interval) <= self.target.max_points

    @property
    def count(self) -> int:
        """Candidates that were begun."""
        return len(self.trials) + len(self.given_up)

    def next(self) -> float | None:
        """The share to try next, None where enough were tried or nothing is left in between."""
        if self.count >= self.target.trials:
            return None
        tried = [Tried(trial.keep, self.fits(trial)) for trial in self.trials]
        tried += [Tried(keep, False) for keep in self.given_up]
        return next_share(tried, self.smallest)


class Budget:
    """Minutes for all candidates; None is no limit."""

    def __init__(self, minutes: float | None) -> None:
        self._ends = None if minutes is None else time.monotonic() + 60.0 * minutes
        self._longest = 0.0

    def allows_another(self) -> bool:
        """Whether one as long as the longest so far would end in time."""
        return self._ends is None or time.monotonic() + self._longest <= self._ends

    @contextmanager
    def one(self) -> Iterator[None]:
        """While a candidate is made."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._longest = max(self._longest, time.monotonic() - started)
