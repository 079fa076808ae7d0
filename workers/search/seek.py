"""Finding the largest cut whose measured value stays at or below a limit. Pure: no Keras, no I/O.

The value (bytes of a file, time of a call) rises with the size of the model (its parameters or
MACs), nearly along a line. The original and the smallest cut are measured first and enclose the
answer; each further trial is where the line through all trials meets the limit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.domain.errors import EngineRefusal
from app.domain.metrics import TrialFigure
from workers.search.line import Line, fit

Lever = Literal["parameters", "macs"]
NAMES: dict[Lever, str] = {"parameters": "parameters", "macs": "MACs"}
STEPS = 10
"""Choices looked at, without measuring, to find the next larger one."""
BLUR = 5
"""So many tolerances below the limit, an interval that holds the limit ends the search."""


@dataclass(frozen=True)
class Candidate:
    """A cut of the original model, foreseen; the original itself has no cut."""

    keep: float
    parameters: int
    macs: int
    cut: Any = None


@dataclass(frozen=True)
class Reading:
    """One measurement, with its 95 % interval where it is noisy."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Goal:
    """What is sought: the largest size whose value is at most `limit · (1 + slack)`."""

    limit: float
    lever: Lever
    tolerance: float
    """A value this little below the limit, relative to it, is close enough."""
    say: Callable[[float], str]
    """A value with its unit, for people."""
    slack: float = 0.0
    noisy: bool = False
    """What is close enough is measured once more before it is believed."""
    measurements: int = 8
    estimates: bool = False
    """When measuring must end, answer what the line foresees instead of the best trial."""

    @property
    def top(self) -> float:
        """The largest value that counts as reached."""
        return self.limit * (1.0 + self.slack)

    def size(self, candidate: Candidate) -> int:
        """Parameters or MACs, whatever the search turns."""
        return candidate.parameters if self.lever == "parameters" else candidate.macs


class Choices(Protocol):
    """The cuts that there are."""

    @property
    def original(self) -> Candidate:
        """The model as it is."""

    def floor(self) -> Candidate:
        """The smallest cut. Raises `EngineRefusal` where nothing can be removed."""

    def at_most(self, size: int) -> Candidate | None:
        """The largest cut that keeps at most so much; None below the floor."""


@dataclass
class Trial:
    """A candidate and all that was measured of it."""

    candidate: Candidate
    readings: list[Reading] = field(default_factory=list)
    predicted: float | None = None

    @property
    def value(self) -> float:
        """Mean of the measurements."""
        return sum(reading.value for reading in self.readings) / len(self.readings)

    @property
    def interval(self) -> tuple[float, float]:
        """From the lowest to the highest that the measurements allow."""
        ends = [reading.interval or (reading.value, reading.value) for reading in self.readings]
        return min(low for low, _ in ends), max(high for _, high in ends)


@dataclass(frozen=True)
class Found:
    """How a search ended."""

    candidate: Candidate | None
    """None: the original fits as it is."""
    value: float
    measured: bool
    """False where the value is foreseen only."""
    trials: tuple[TrialFigure, ...]
    note: str | None
    """Why it is not closer to the limit."""


def seek(
    goal: Goal,
    choices: Choices,
    measure: Callable[[Candidate], Reading],
    tell: Callable[[TrialFigure], None] = lambda figure: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Found:
    """Search until close enough, until nothing lies between, or until measuring must end.

    Args:
        goal: the limit and when to be content.
        choices: the cuts that there are.
        measure: exports or times a candidate; costly.
        tell: hears of each measurement.
        go_on: False when time is up; the original and the smallest cut are measured anyway.

    Raises:
        EngineRefusal: even the smallest cut is beyond the limit; it says by how much.
    """
    return _Search(goal, choices, measure, tell).run(go_on)


class _Search:
    def __init__(
        self,
        goal: Goal,
        choices: Choices,
        measure: Callable[[Candidate], Reading],
        tell: Callable[[TrialFigure], None],
    ) -> None:
        self.goal, self.choices = goal, choices
        self.measure, self.tell = measure, tell
        self.trials: list[Trial] = []
        self.figures: list[TrialFigure] = []
        self.widths: list[int] = []

    def run(self, go_on: Callable[[], bool]) -> Found:
        original = self.attempt(self.choices.original)
        if original.value <= self.goal.limit:
            said = f"already fits: the original measures {self.goal.say(original.value)}"
            return self.found(None, original.value, note=said)
        floor = self.attempt(self.choices.floor())
        if floor.interval[0] > self.goal.top:
            raise self.refusal(floor)
        while not self.settled():
            candidate = self.next()
            if candidate is None:
                return self.best(self.between())
            if len(self.figures) >= self.goal.measurements or not go_on():
                if self.goal.estimates:
                    foreseen = self.line().value(self.goal.size(candidate))
                    return self.found(candidate, foreseen, measured=False)
                return self.best(f"the search ended after {len(self.figures)} measurements")
            self.attempt(candidate)
        return self.best(None)

    # --- measuring -------------------------------------------------------------------------
    def attempt(self, candidate: Candidate) -> Trial:
        size = self.goal.size(candidate)
        predicted = self.line().value(size) if len(self.trials) > 1 else None
        self.trials.append(Trial(candidate, [], predicted))
        return self.read(self.trials[-1])

    def read(self, trial: Trial) -> Trial:
        reading = self.measure(trial.candidate)
        trial.readings.append(reading)
        figure = TrialFigure(
            keep=trial.candidate.keep,
            parameters=trial.candidate.parameters,
            macs=trial.candidate.macs,
            value=reading.value,
            interval=reading.interval,
            predicted=trial.predicted,
        )
        self.figures.append(figure)
        self.tell(figure)
        return trial

    def settled(self) -> bool:
        """Whether the largest fitting trial is close enough, also when measured once more."""
        low = self.low
        if not self.close(low):
            return False
        again = self.goal.noisy and len(low.readings) == 1
        if again and len(self.figures) < self.goal.measurements:
            return self.close(self.read(low)) and low is self.low
        return True

    def close(self, trial: Trial) -> bool:
        goal = self.goal
        near = goal.limit * (1.0 - goal.tolerance) <= trial.value
        blurred = goal.noisy and trial.interval[1] >= goal.limit
        nearly = goal.limit * (1.0 - BLUR * goal.tolerance) <= trial.value
        return trial.value <= goal.top and (near or (blurred and nearly))

    # --- where next ------------------------------------------------------------------------
    def line(self) -> Line:
        """The line through all trials."""
        sizes = [self.goal.size(trial.candidate) for trial in self.trials]
        return fit(sizes, [trial.value for trial in self.trials], self.goal.limit)

    @property
    def low(self) -> Trial:
        """The largest cut that fits; the smallest of all where none does."""
        cuts = [trial for trial in self.trials if trial.candidate.cut is not None]
        ordered = sorted(cuts, key=lambda trial: self.goal.size(trial.candidate))
        fitting = [trial for trial in ordered if trial.value <= self.goal.top]
        return fitting[-1] if fitting else ordered[0]

    @property
    def high(self) -> Trial:
        """The smallest trial above `low`: it does not fit."""
        above = self.goal.size(self.low.candidate)
        larger = [t for t in self.trials if self.goal.size(t.candidate) > above]
        return min(larger, key=lambda trial: self.goal.size(trial.candidate))

    def next(self) -> Candidate | None:
        """The cut that the line points at, strictly between low and high; None: there is none.

        In the middle where two trials along the line have not halved what lies between.
        """
        low, high = (self.goal.size(t.candidate) for t in (self.low, self.high))
        if self.low.value > self.goal.top or high - low < 2:
            return None
        aim = self.line().size(self.goal.limit * (1.0 - self.goal.tolerance / 2))
        self.widths.append(high - low)
        if len(self.widths) > 2 and self.widths[-1] > self.widths[-3] / 2:
            aim = None  # Files that grow in blocks: the line creeps up to a stair.
        size = (low + high) // 2 if aim is None else int(min(max(aim, low + 1), high - 1))
        found = self.choices.at_most(size)
        if found is not None and low < self.goal.size(found):
            return found
        return self.above(low, max(size, low + 1), high)

    def above(self, low: int, start: int, high: int) -> Candidate | None:
        """The smallest choice larger than `low`, which nothing up to `start` is."""
        best = self.choices.at_most(high - 1)
        if best is None or self.goal.size(best) <= low:
            return None
        end = self.goal.size(best)
        for _ in range(STEPS):
            if end - start < 2:
                break
            middle = (start + end) // 2
            found = self.choices.at_most(middle)
            if found is None or self.goal.size(found) <= low:
                start = middle
            else:
                best, end = found, self.goal.size(found)
        return best

    # --- ending ----------------------------------------------------------------------------
    def between(self) -> str:
        """Why there is no cut to try."""
        say, low = self.goal.say, self.low
        if low.value > self.goal.top:
            least, most = low.interval
            return (
                f"even the smallest cut measured {say(low.value)}, and only its 95 % interval, "
                f"{say(least)} to {say(most)}, leaves open whether that is enough"
            )
        high = self.high
        which = ", the original," if high.candidate.cut is None else ""
        return f"units are discrete: the next larger choice{which} measures {say(high.value)}"

    def best(self, note: str | None) -> Found:
        low, say = self.low, self.goal.say
        if note is None and low.value < self.goal.limit * (1.0 - self.goal.tolerance):
            note = (
                f"the measurement's 95 % interval, {say(low.interval[0])} to "
                f"{say(low.interval[1])}, holds the asked value: finer steps would follow noise"
            )
        return self.found(low.candidate, low.value, note=note)

    def found(
        self,
        candidate: Candidate | None,
        value: float,
        *,
        measured: bool = True,
        note: str | None = None,
    ) -> Found:
        return Found(candidate, value, measured, tuple(self.figures), note)

    def refusal(self, floor: Trial) -> EngineRefusal:
        goal, say = self.goal, self.goal.say
        kept = floor.candidate.keep
        overhead = self.line().intercept
        cost = (
            f" Without any {NAMES[goal.lever]} it would still be about {say(overhead)}."
            if overhead > 0
            else ""
        )
        return EngineRefusal(
            f"The target asks for at most {say(goal.limit)}, but the smallest model that can be "
            f"reached, with {kept:.4g} of the {NAMES[goal.lever]}, measures {say(floor.value)}."
            f"{cost} Ask for no less than that, or let more layers be pruned.",
            field="prune.target",
        )
