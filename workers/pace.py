"""How far a job is, and how long it will still take, from the pace so far."""

import time
from typing import Any

from app.domain.criteria import VariationalDropoutCriterion
from app.domain.job import Progress
from app.domain.prune import AccuracyDropTarget, BytesTarget, LatencyTarget
from app.domain.spec import IterativeSchedule, OneShotSchedule, PolynomialSchedule, PruningSpec

WEIGHTS = {
    "loading": 0.04,
    "pruning": 0.04,
    "fine-tuning": 0.72,
    "evaluating": 0.04,
    "exporting": 0.06,
    "measuring": 0.10,
}
"""Usual shares of a job's time; without training, fine-tuning's falls away."""
SEARCH_WEIGHTS: dict[type, float] = {BytesTarget: 0.08, LatencyTarget: 0.25}
"""What the search for such a target adds."""
LATE = ("exporting", "measuring")
"""Phases after all training; the others come around again with every cut."""


class Pace:
    """Turns places in a job into shares and estimates."""

    def __init__(self, spec: PruningSpec) -> None:
        self._spec = spec
        self.phase = "loading"
        self._started = time.monotonic()
        self._share = 0.0
        self._epochs_finished = 0
        self._search_weight = SEARCH_WEIGHTS.get(type(spec.prune.target), 0.0)
        self._searched = 0.0

    @property
    def steps(self) -> int:
        """Cuts of the schedule."""
        schedule = self._spec.schedule
        return 1 if isinstance(schedule, OneShotSchedule) else schedule.steps

    @property
    def epochs_of_learning(self) -> int:
        """Epochs before the first cut."""
        criterion = self._spec.prune.criterion
        return criterion.epochs if isinstance(criterion, VariationalDropoutCriterion) else 0

    def epochs_of(self, step: int) -> int:
        """Epochs after the cut with this index; the last has the fine-tuning's own."""
        if self._spec.fine_tune is None:
            return 0
        match self._spec.schedule:
            case IterativeSchedule() | PolynomialSchedule() as schedule if step + 1 < self.steps:
                return schedule.epochs_per_step
            case _:
                return self._spec.fine_tune.epochs

    @property
    def epochs(self) -> int:
        """Epochs of the whole job, if it does not stop early."""
        target = self._spec.prune.target
        rounds = target.trials if isinstance(target, AccuracyDropTarget) else 1
        cuts = sum(self.epochs_of(step) for step in range(self.steps))
        return rounds * (self.epochs_of_learning + cuts)

    def at(
        self,
        phase: str,
        epochs_finished: int | None = None,
        searched: float | None = None,
        **where: Any,
    ) -> Progress:
        """The job's progress at a place; its share never falls.

        Args:
            phase: what the job is doing.
            epochs_finished: in all, when it has changed.
            searched: share of the search's most trials, when it has changed.
            where: further fields of `Progress`.
        """
        self.phase = phase
        if phase in ("pruning", "fine-tuning"):
            searched = 1.0
        if searched is not None:
            self._searched = max(self._searched, searched)
        if epochs_finished is not None:
            self._epochs_finished = epochs_finished
        self._share = max(self._share, self._estimate(phase, where.get("batch_share") or 0.0))
        if phase == "fine-tuning":
            where.setdefault("epoch", self._epochs_finished or None)
            where["epochs"] = self.epochs
        if phase in ("calibrating", "pruning", "fine-tuning"):
            where["steps"] = self.steps
        return Progress(phase=phase, share=self._share, eta_seconds=self._eta(), **where)

    def _estimate(self, phase: str, batch_share: float) -> float:
        weights = WEIGHTS | ({} if self.epochs else {"fine-tuning": 0.0})
        weights["search"] = self._search_weight
        total = sum(weights.values())
        if phase not in LATE:
            done = weights["loading"] if phase != "loading" else 0.0
            done += weights["search"] * self._searched
            if self.epochs:
                trained = (self._epochs_finished + batch_share) / self.epochs
                done += weights["fine-tuning"] * min(trained, 1.0)
            return min(done / total, 1.0)
        left = sum(weights[name] for name in LATE[LATE.index(phase) :])
        return 1.0 - left / total

    def _eta(self) -> float | None:
        """Seconds left, if the rest goes on at the pace so far; None before that can be told."""
        spent = time.monotonic() - self._started
        if self._share < 0.05:
            return None
        return round(spent * (1.0 - self._share) / self._share, 1)
