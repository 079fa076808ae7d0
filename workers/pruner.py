"""From a model to a smaller one: the schedule of cuts, training between them, checkpoints."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.domain.criteria import VariationalDropoutCriterion
from app.domain.errors import InternalError
from app.domain.metrics import EqualityFigure, State
from app.domain.prune import Prune
from app.domain.recovery import FineTune
from app.domain.spec import PruningSpec
from workers import engine
from workers.evaluation.evaluate import evaluate
from workers.measure.compare import sized
from workers.protocol import Saved
from workers.report.figures import shrink_note
from workers.search.allocation import Allocation, allocate, allocated
from workers.telling import Telling
from workers.training.control import NOTE as CONTROL
from workers.training.control import copied, fresh
from workers.training.data import Data
from workers.training.evidence import collect
from workers.training.fine_tune import FineTuner
from workers.training.objective import Objective
from workers.training.state import JobState, save
from workers.training.teaching import Teacher
from workers.training.variational import evidence as noise_evidence
from workers.training.variational import loss_scale

CHECKPOINT_SHARE = 0.1
"""A checkpoint may cost this share of the time since the last one; else it waits an epoch."""


class Pruner:
    """Cuts and trains as a spec says, from wherever a state is."""

    def __init__(
        self,
        spec: PruningSpec,
        telling: Telling,
        scratch: Path,
        data: Data | None,
        objective: Objective | None,
        teacher: Teacher,
    ) -> None:
        """`scratch` is a folder for files; `teacher` is the original, for distillation."""
        self.spec = spec
        self.telling = telling
        self.scratch = scratch
        self.data = data
        self.objective = objective
        self.epochs_before = 0
        """Of earlier candidates, while several are tried."""
        self.epochs_apart = 0
        """From one candidate to the next; 0 where there is one."""
        self._teacher = teacher
        self._last_checkpoint = -1
        self._checkpointed = time.monotonic()
        self._checkpoint_cost = 0.0

    def cut_and_train(self, state: JobState) -> None:
        """The schedule, from wherever the state is."""
        self._learn(state)
        for step, share in enumerate(engine.shares(self.spec.schedule)):
            self.prune(state, step, share)
            if self.spec.control is not None and not state.epoch_in_step:
                state.model = fresh(state.model, self.spec.seed)
                self.telling.note(CONTROL)
            self._fine_tune(state, step)

    def _learn(self, state: JobState) -> None:
        """What a criterion learns before the first cut."""
        epochs = self.telling.pace.epochs_of_learning
        if state.step or not epochs or self.spec.fine_tune is None:
            return
        if state.loss_scale is None:
            # The original stays as it is: it teaches, and the result is compared with it.
            state.model = copied(state.model)
            state.loss_scale = self._loss_scale(state.model)
        with self.telling.phase("fine-tuning"):
            self._tuner(state, self.spec.fine_tune).train(epochs, final=False)

    def _loss_scale(self, model: Any) -> float:
        assert self.data is not None
        assert self.objective is not None
        return loss_scale(model, self.objective, self.data.train, self.spec.seed)

    def allocator(self, whole: Any) -> Callable[[Prune], Allocation] | None:
        """With scope sensitivity: from a target to each layer's share; looks at every layer."""
        if self.spec.prune.scope != "sensitivity" or self.data is None or self.objective is None:
            return None
        evidence = self.calibrate(whole, 0)
        with self.telling.phase("search"):
            return allocate(
                *(whole, self.spec.prune, self.data, self.objective, self.spec.seed), evidence
            )

    def prune(self, state: JobState, step: int, share: float) -> None:
        """One cut, proven: the model and all that is known of it are replaced.

        Raises:
            EngineRefusal: the model cannot be cut so.
            InternalError: the proof fails.
        """
        if state.step > step:
            return  # Done by the attempt that wrote the checkpoint.
        evidence = self.calibrate(state.model, step, state.log_variances)
        with self.telling.phase("pruning"):
            self.telling.tell(step=step + 1)
            cut = self._choose(state, share, evidence)
            reduced = engine.apply(state.model, cut)
            proof = engine.prove(state.model, reduced, cut, seed=self.spec.seed)
            self.keep_proof(state, proof)
        state.model = reduced
        state.progress = cut.progress
        state.tally = state.tally.after(cut)
        state.masks = engine.masks_by_variable(reduced, cut)
        state.step = step + 1
        state.cut_notes.update({one.name: one.note for one in cut.summary if one.note})
        self.telling.reporter.happened(
            "cut",
            {
                "step": step + 1,
                "share": share,
                "removed": sum(one.removed for one in cut.summary),
                "max_abs_difference": proof.max_abs_difference,
                "output_scale": proof.output_scale,
            },
        )
        if step + 1 == len(engine.shares(self.spec.schedule)):
            state.pruned = sized(self.evaluated(state.model, "pruned"), state.model, self.scratch)

    def _choose(
        self, state: JobState, share: float, evidence: engine.Evidence | None
    ) -> engine.Cut:
        prune = self.spec.prune if state.resolved is None else state.resolved.prune
        if prune is None:
            return engine.UnitCut({}, (), state.progress)  # The target is met as it is.
        if state.resolved is not None and state.resolved.allocation:
            prune = allocated(prune, state.resolved.allocation)
        return engine.choose(
            state.model,
            prune,
            share=share,
            seed=self.spec.seed,
            progress=state.progress,
            evidence=evidence,
        )

    def calibrate(
        self, model: Any, step: int, learned: Mapping[str, Any] | None = None
    ) -> engine.Evidence | None:
        """What the criterion needs to see of the model as it is now; None where that is nothing."""
        if isinstance(self.spec.prune.criterion, VariationalDropoutCriterion):
            return noise_evidence(model, learned or {})
        if not self.spec.prune.needs_data or self.data is None or self.objective is None:
            return None
        with self.telling.phase("calibrating"):
            self.telling.tell(step=step + 1)
            return collect(
                model, self.data, self.objective, self.spec.prune.criterion, self.spec.seed
            )

    def keep_proof(self, state: JobState, proof: engine.Equality) -> None:
        """Of all proofs, the state keeps the worst.

        Raises:
            InternalError: it does not hold.
        """
        if not proof.holds:
            raise InternalError(
                "The reduced model does not compute what the masked original computes: outputs "
                f"differ by {proof.max_abs_difference:g} at a scale of {proof.output_scale:g}. "
                "Nothing is handed out. Please report this model's architecture."
            )
        if state.equality is None or (
            proof.max_abs_difference * state.equality.output_scale
            >= state.equality.max_abs_difference * proof.output_scale
        ):
            state.equality = EqualityFigure(
                max_abs_difference=proof.max_abs_difference,
                output_scale=proof.output_scale,
                samples=proof.samples,
                holds=proof.holds,
            )

    def shrink(self, state: JobState) -> None:
        """Let units go that zeros have killed. Training is over: nothing has to be held."""
        prune = self.spec.prune
        if prune.structured or not prune.shrink:
            return
        with self.telling.phase("shrinking"):
            shrunk = engine.shrink(state.model, masks=state.masks, prune=prune, seed=self.spec.seed)
        state.model, state.masks = shrunk.model, shrunk.masks
        if shrunk.equality is not None:
            self.keep_proof(state, shrunk.equality)
            self.telling.note(shrink_note(shrunk))
        elif shrunk.note is not None:
            self.telling.note(shrunk.note)

    def _fine_tune(self, state: JobState, step: int) -> None:
        spec = self.spec.fine_tune
        if spec is None or self.data is None or self.objective is None or state.step > step + 1:
            return
        final = step + 1 == len(engine.shares(self.spec.schedule))
        with self.telling.phase("fine-tuning"):
            self._tuner(state, spec).train(self.telling.pace.epochs_of(step), final=final)

    def _tuner(self, state: JobState, spec: FineTune) -> FineTuner:
        assert self.data is not None
        assert self.objective is not None
        criterion = self.spec.prune.criterion

        def on_batch(epoch: int, share: float, metrics: dict[str, float]) -> None:
            self.telling.tell(
                step=state.step,
                epoch=self.epochs_before + state.epochs_done + 1,
                batch_share=share,
                metrics=metrics,
            )

        def on_epoch(figure: Any) -> None:
            progress = self.telling.pace.at(
                "fine-tuning",
                step=state.step,
                epoch=self.epochs_before + figure.epoch,
                batch_share=0.0,
                metrics=figure.logs,
                epochs_finished=self.epochs_before + figure.epoch,
            )
            self.telling.reporter.happened("epoch", figure.model_dump(), progress)
            if not self.epochs_apart:
                self.checkpoint(state)

        return FineTuner(
            state,
            self.data,
            self.objective,
            spec,
            self.spec.seed,
            on_batch,
            on_epoch,
            self._teacher,
            criterion if isinstance(criterion, VariationalDropoutCriterion) else None,
        )

    def checkpoint(self, state: JobState, *, asked: bool = False) -> None:
        """Write one, unless that would cost too much of the time; `asked`: always."""
        now = time.monotonic()
        if not asked and self._checkpoint_cost > CHECKPOINT_SHARE * (now - self._checkpointed):
            return
        state.seconds = dict(self.telling.seconds)
        # Its parent may still be reading the last one, and knows them by this number.
        done = max(self.epochs_before + state.epochs_done, self._last_checkpoint + 1)
        self._last_checkpoint = done
        name = f"checkpoint-{done}.zip"
        save(state, self.scratch / name)
        self.telling.reporter.send(Saved(file=name, epoch=done))
        self._checkpointed = time.monotonic()
        self._checkpoint_cost = self._checkpointed - now

    def evaluated(self, model: Any, moment: str, counted: Any = None) -> State:
        """Sizes, and metrics on the held-out samples.

        Args:
            model: is evaluated.
            moment: of the job, for its events.
            counted: whose sizes these are; the model's own where left out.
        """
        counts = engine.count(model if counted is None else counted)
        found = {}
        with self.telling.phase("evaluating"):
            if self.data is not None and self.objective is not None:
                found = evaluate(model, self.data.test, self.objective)
                self.telling.reporter.happened(
                    "evaluation",
                    {"moment": moment} | {name: one.model_dump() for name, one in found.items()},
                )
        return State(
            parameters=counts.parameters,
            nonzero_parameters=counts.nonzero_parameters,
            macs=counts.macs,
            macs_exact=counts.macs_exact,
            evaluation=found,
        )
