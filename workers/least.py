"""The smallest model that loses no more accuracy than asked: candidates, one after the other."""

from collections.abc import Callable
from typing import Any

from app.domain.errors import EngineRefusal
from app.domain.metrics import TrialFigure
from app.domain.prune import AccuracyDropTarget, MacsTarget, ParametersTarget, Prune
from workers import engine
from workers.evaluation.lost import Lost, lost, right
from workers.pruner import Pruner
from workers.search.allocation import Allocation
from workers.search.drop import SMALLEST, Budget, Search
from workers.search.resolve import Resolved
from workers.training.fine_tune import Diverged
from workers.training.state import JobState


class Least:
    """Tries candidates until the smallest good one is known, or the budget is spent."""

    def __init__(self, pruner: Pruner, target: AccuracyDropTarget) -> None:
        self.pruner = pruner
        self.target = target

    def found(self, state: JobState, original: Any, whole: Any) -> JobState:
        """The smallest of several candidates that loses no more accuracy than asked.

        Each is cut from the whole model. What a later attempt of the job needs is the best one so
        far, and what is known of the others.
        """
        target = self.target
        assert self.pruner.data is not None
        assert self.pruner.objective is not None
        before = right(original, self.pruner.data.validation, self.pruner.objective)
        known = state.resolved or Resolved(prune=None)
        smallest = SMALLEST[self.pruner.spec.prune.measure]
        search = Search(target, smallest, list(known.trials), list(known.given_up))
        best = state if any(search.fits(trial) for trial in search.trials) else None
        clock, refused = Budget(target.minutes), None
        allocator = self.pruner.allocator(whole)
        self.pruner.epochs_apart = self.pruner.telling.pace.epochs // target.trials
        while clock.allows_another() or not search.count:
            keep = search.next()
            if keep is None:
                break
            self.pruner.epochs_before = search.count * self.pruner.epochs_apart
            try:
                with clock.one():
                    candidate = self._candidate(state, whole, keep, allocator)
                    self.pruner.cut_and_train(candidate)
            except (EngineRefusal, Diverged) as refusal:
                refused = refusal
                search.given_up.append(keep)
                self.pruner.telling.note(
                    f"A candidate that keeps {keep:.3g} was given up: {refusal.detail}"
                )
                continue
            after = right(candidate.model, self.pruner.data.validation, self.pruner.objective)
            search.trials.append(self._trial(candidate, keep, lost(before, after)))
            if search.fits(search.trials[-1]):
                best = candidate
            self._remember(best or state, search)
        if best is None and not search.trials and refused is not None:
            raise refused
        return best or self._nothing(state, search)

    def _candidate(
        self,
        state: JobState,
        whole: Any,
        keep: float,
        allocator: Callable[[Prune], Allocation] | None,
    ) -> JobState:
        prune = self.pruner.spec.prune
        share = MacsTarget if prune.measure == "macs" else ParametersTarget
        asked = prune.model_copy(update={"target": share(keep=keep)})
        return JobState(
            model=whole,
            progress=engine.begin(whole, prune),
            before=state.before,
            equality=state.equality,
            resolved=Resolved(
                prune=asked, allocation={} if allocator is None else dict(allocator(asked))
            ),
        )

    def _trial(self, candidate: JobState, keep: float, found: Lost) -> TrialFigure:
        assert candidate.resolved is not None
        candidate.resolved = candidate.resolved.model_copy(update={"value": found.points})
        counts = engine.count(candidate.model)
        zeros = not self.pruner.spec.prune.structured
        figure = TrialFigure(
            keep=keep,
            parameters=counts.nonzero_parameters if zeros else counts.parameters,
            macs=counts.macs,
            value=found.points,
            interval=found.interval,
        )
        self.pruner.telling.reporter.happened("trial", figure.model_dump())
        return figure

    def _remember(self, state: JobState, search: Search) -> None:
        known = {"trials": tuple(search.trials), "given_up": tuple(search.given_up)}
        state.resolved = (state.resolved or Resolved(prune=None)).model_copy(update=known)
        self.pruner.checkpoint(state, asked=True)

    def _nothing(self, state: JobState, search: Search) -> JobState:
        """The model as it is, where no candidate was good enough."""
        said = (
            f"none of {len(search.trials)} candidates stayed within {search.target.max_points:g} "
            "points of the original on validation samples, with 95 % confidence; more epochs, more "
            "samples, a teacher (fine_tune.distillation) or a larger max_points may help"
        )
        state.resolved = Resolved(prune=None, trials=tuple(search.trials), note=said)
        for step, share in enumerate(engine.shares(self.pruner.spec.schedule)):
            self.pruner.prune(state, step, share)
        return state
