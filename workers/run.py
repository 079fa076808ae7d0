"""A job in a sentence: load, search, prune, fine-tune, evaluate, export, measure, report."""

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from app.domain.analysis import ModelAnalysis
from app.domain.criteria import VariationalDropoutCriterion
from app.domain.errors import EngineRefusal, InternalError
from app.domain.job import Order
from app.domain.metrics import (
    EqualityFigure,
    Metrics,
    SensitivityFigure,
    State,
    TrialFigure,
)
from app.domain.recovery import FineTune
from app.domain.spec import (
    AccuracyDropTarget,
    Latency,
    MacsTarget,
    ParametersTarget,
)
from app.plots.job import overview
from workers import engine
from workers.analysis import analysis, look
from workers.evaluation.evaluate import evaluate
from workers.evaluation.files import evaluate_quantised, look_at_files
from workers.evaluation.lost import Lost, lost, right
from workers.loading import completed, load
from workers.measure.compare import (
    ALWAYS,
    Measured,
    sized,
    time_both,
    timings,
    write_both,
)
from workers.measure.latency import cores
from workers.measure.pair import Files
from workers.measure.sparse import time_sparse
from workers.pace import Pace
from workers.plan import plan
from workers.protocol import Reporter, Saved, finite
from workers.report.figures import per_layer, shrink_note
from workers.report.html import render
from workers.report.target import target_figure
from workers.report.verdict import verdict
from workers.search.drop import SMALLEST, Budget, Search
from workers.search.measures import as_trained
from workers.search.resolve import BYTES_TRIALS, Bench, Resolved, is_searched, resolve
from workers.search.sensitivity import sensitivity
from workers.training.control import NOTE as CONTROL
from workers.training.control import dense_spec, fresh
from workers.training.data import Data, load_data
from workers.training.evidence import collect, drawn
from workers.training.fine_tune import Diverged, FineTuner
from workers.training.objective import Objective
from workers.training.state import JobState, restore, save
from workers.training.teaching import Teacher
from workers.training.unlabelled import settled
from workers.training.variational import evidence as noise_evidence

CALIBRATED_BY = 200
"""Training samples that tell the ranges of activations, for files of 8 bits."""
CHECKPOINT_SHARE = 0.1
"""A checkpoint may cost this share of the time since the last one; else it waits an epoch."""


def run(order: Order, reporter: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Carry out an order: what goes into the job's row, and the names of the files in `out`."""
    if order.kind == "plan":
        return plan(order).model_dump(mode="json", by_alias=True), []
    if order.kind == "analysis":
        return _analyse(order)
    return Job(order, reporter).run()


def _analyse(order: Order) -> tuple[dict[str, Any], list[str]]:
    found, page = analysis(order)
    (Path(order.out) / "analysis.html").write_text(page, encoding="utf-8")
    return found.model_dump(mode="json", by_alias=True), ["analysis.html"]


class Job:
    """One attempt of one pruning job."""

    def __init__(self, order: Order, reporter: Reporter) -> None:
        self.order = order
        self.spec = order.spec
        if order.spec.control is not None:
            self.spec = dense_spec(order.spec, Pace(order.spec).epochs)
        self.reporter = reporter
        self.out = Path(order.out)
        self.scratch = Path(order.scratch)
        self.pace = Pace(self.spec)
        self.notes: list[str] = []
        self.data: Data | None = None
        self.objective: Objective | None = None
        self._teacher: Teacher | None = None
        self._last_checkpoint = -1
        self._epochs_before = 0
        """Of earlier candidates, while several are tried."""
        self._epochs_apart = 0
        """From one candidate to the next; 0 where there is one."""
        self._seconds: dict[str, float] = {}
        self._trials = 0
        self._checkpointed = time.monotonic()
        self._checkpoint_cost = 0.0

    def run(self) -> tuple[dict[str, Any], list[str]]:
        """The sentence."""
        original = self._load()
        apart = self._taken_apart(original)
        self._teacher = Teacher(original)
        state = self._start(original, apart.model)
        if isinstance(self.spec.prune.target, AccuracyDropTarget):
            state = self._least(state, original, apart.model, self.spec.prune.target)
        else:
            self._cut_and_train(state)
        self._shrink(state)
        after = self._evaluated(state.model, "after")
        measured = Measured()
        files = self._export(original, state.model, measured)
        self._measure(original, state.model, files, measured)
        lost = self._lost(original, state.model)
        metrics = self._metrics(apart.model, state, after, measured, lost)
        return self._report(metrics, look(apart.model, self.spec.model, apart), files)

    # --- load ------------------------------------------------------------------------------
    def _load(self) -> Any:
        order = self.order
        with self._phase("loading"):
            model = load(Path(order.model_path), order.model, self.scratch)
            if order.dataset is not None and order.dataset_path is not None:
                info = completed(model, order.model)
                data = load_data(Path(order.dataset_path), order.dataset, info, self.spec.seed)
                self.data, self.objective = settled(
                    data, order.dataset, model, order.model.training, self.spec
                )
                for note in (*self.data.notes, *self.objective.notes):
                    self._note(note)
        return model

    def _taken_apart(self, original: Any) -> engine.Inlined:
        """What is cut: the original, or what its layers of KerasHub are made of."""
        with self._phase("loading"):
            apart = engine.inlined(original, seed=self.spec.seed)
        for note in apart.notes:
            self._note(note)
        return apart

    def _start(self, original: Any, whole: Any) -> JobState:
        """The state to go on from; `whole` is the uncut model that the first step cuts."""
        if self.order.checkpoint_path is not None:
            state = restore(Path(self.order.checkpoint_path), self.scratch)
            self._seconds.update(state.seconds)
            self._note(f"Resumed after epoch {state.epochs_done} of an interrupted attempt.")
            return state
        state = JobState(model=whole, progress=engine.begin(whole, self.spec.prune))
        state.before = self._evaluated(original, "before", counted=whole)
        state.resolved = self._search(whole)
        if whole is not original:
            self._keep_proof(state, engine.prove_same(original, whole, seed=self.spec.seed))
        return state

    # --- search ----------------------------------------------------------------------------
    def _search(self, original: Any) -> Resolved | None:
        """Bytes and latency: the target of parameters or MACs that reaches them."""
        spec = self.spec
        if not is_searched(spec.prune):
            return None
        listed = spec.evaluate.latency or Latency()
        evidence = self._calibrate(original, 0)
        with self._phase("search"):
            resolved = resolve(
                original,
                spec.prune,
                lambda prune: engine.choose(original, prune, seed=spec.seed, evidence=evidence),
                Bench(
                    self.scratch / "search",
                    spec.seed,
                    self._like_results,
                    listed.repeats,
                    self._tell_trial,
                ),
            )
        if resolved is not None and resolved.note is not None:
            self._note(f"Search for the target: {resolved.note}.")
        return resolved

    def _like_results(self, model: Any) -> None:
        self._compile(model)
        if self.spec.fine_tune is not None:
            as_trained(model, self.spec.seed)

    def _tell_trial(self, trial: TrialFigure) -> None:
        self._trials += 1
        progress = self.pace.at("search", searched=self._trials / BYTES_TRIALS)
        self.reporter.happened("trial", trial.model_dump(), progress)

    def _least(
        self, state: JobState, original: Any, whole: Any, target: AccuracyDropTarget
    ) -> JobState:
        """The smallest of several candidates that loses no more accuracy than asked.

        Each is cut from the whole model. What a later attempt of the job needs is the best one so
        far, and what is known of the others.
        """
        assert self.data is not None
        assert self.objective is not None
        before = right(original, self.data.validation, self.objective)
        known = state.resolved or Resolved(prune=None)
        smallest = SMALLEST[self.spec.prune.measure]
        search = Search(target, smallest, list(known.trials), list(known.given_up))
        best = state if any(search.fits(trial) for trial in search.trials) else None
        clock, refused = Budget(target.minutes), None
        self._epochs_apart = self.pace.epochs // target.trials
        while clock.allows_another() or not search.count:
            keep = search.next()
            if keep is None:
                break
            candidate = self._candidate(state, whole, keep)
            self._epochs_before = search.count * self._epochs_apart
            try:
                with clock.one():
                    self._cut_and_train(candidate)
            except (EngineRefusal, Diverged) as refusal:
                refused = refusal
                search.given_up.append(keep)
                self._note(f"A candidate that keeps {keep:.3g} was given up: {refusal.detail}")
                continue
            after = right(candidate.model, self.data.validation, self.objective)
            search.trials.append(self._trial(candidate, keep, lost(before, after)))
            if search.fits(search.trials[-1]):
                best = candidate
            self._remember(best or state, search)
        if best is None and not search.trials and refused is not None:
            raise refused
        return best or self._nothing(state, search)

    def _candidate(self, state: JobState, whole: Any, keep: float) -> JobState:
        prune = self.spec.prune
        share = MacsTarget if prune.measure == "macs" else ParametersTarget
        return JobState(
            model=whole,
            progress=engine.begin(whole, prune),
            before=state.before,
            equality=state.equality,
            resolved=Resolved(prune=prune.model_copy(update={"target": share(keep=keep)})),
        )

    def _trial(self, candidate: JobState, keep: float, found: Lost) -> TrialFigure:
        assert candidate.resolved is not None
        candidate.resolved = candidate.resolved.model_copy(update={"value": found.points})
        counts = engine.count(candidate.model)
        zeros = not self.spec.prune.structured
        figure = TrialFigure(
            keep=keep,
            parameters=counts.nonzero_parameters if zeros else counts.parameters,
            macs=counts.macs,
            value=found.points,
            interval=found.interval,
        )
        self.reporter.happened("trial", figure.model_dump())
        return figure

    def _remember(self, state: JobState, search: Search) -> None:
        known = {"trials": tuple(search.trials), "given_up": tuple(search.given_up)}
        state.resolved = (state.resolved or Resolved(prune=None)).model_copy(update=known)
        self._checkpoint(state, asked=True)

    def _nothing(self, state: JobState, search: Search) -> JobState:
        """The model as it is, where no candidate was good enough."""
        said = (
            f"none of {len(search.trials)} candidates stayed within {search.target.max_points:g} "
            "points of the original on validation samples, a standard error included; more epochs, "
            "more samples, a teacher (fine_tune.distillation) or a larger max_points may help"
        )
        state.resolved = Resolved(prune=None, trials=tuple(search.trials), note=said)
        for step, share in enumerate(engine.shares(self.spec.schedule)):
            self._prune(state, step, share)
        return state

    def _lost(self, original: Any, final: Any) -> Lost | None:
        """Of accuracy, on test samples, where the target asks."""
        if self.data is None or self.objective is None:
            return None
        if not isinstance(self.spec.prune.target, AccuracyDropTarget):
            return None
        with self._phase("evaluating"):
            models = (original, final)
            return lost(*(right(each, self.data.test, self.objective) for each in models))

    def _sensitivity(self, whole: Any) -> SensitivityFigure | None:
        """What each layer of the original bears, where that is asked."""
        asked = self.spec.evaluate.sensitivity
        if asked is None or self.data is None or self.objective is None:
            return None
        evidence = self._calibrate(whole, 0)
        with self._phase("evaluating"):
            return sensitivity(
                *(whole, self.spec.prune, asked, self.data, self.objective),
                self.spec.seed,
                evidence,
            )

    # --- prune -----------------------------------------------------------------------------
    def _cut_and_train(self, state: JobState) -> None:
        """The schedule, from wherever the state is."""
        self._learn(state)
        for step, share in enumerate(engine.shares(self.spec.schedule)):
            self._prune(state, step, share)
            if self.spec.control is not None and not state.epoch_in_step:
                state.model = fresh(state.model, self.spec.seed)
                self._note(CONTROL)
            self._fine_tune(state, step)

    def _learn(self, state: JobState) -> None:
        """What a criterion learns before the first cut."""
        epochs = self.pace.epochs_of_learning
        if state.step or not epochs or self.spec.fine_tune is None:
            return
        with self._phase("fine-tuning"):
            self._tuner(state, self.spec.fine_tune).train(epochs, final=False)

    def _prune(self, state: JobState, step: int, share: float) -> None:
        if state.step > step:
            return  # Done by the attempt that wrote the checkpoint.
        evidence = self._calibrate(state.model, step, state.log_variances)
        with self._phase("pruning"):
            self._tell(step=step + 1)
            cut = self._choose(state, share, evidence)
            reduced = engine.apply(state.model, cut)
            proof = engine.prove(state.model, reduced, cut, seed=self.spec.seed)
            self._keep_proof(state, proof)
        state.model = reduced
        state.progress = cut.progress
        state.tally = state.tally.after(cut)
        state.masks = engine.masks_by_variable(reduced, cut)
        state.step = step + 1
        state.cut_notes.update({one.name: one.note for one in cut.summary if one.note})
        self.reporter.happened(
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
            state.pruned = sized(self._evaluated(state.model, "pruned"), state.model, self.scratch)

    def _choose(
        self, state: JobState, share: float, evidence: engine.Evidence | None
    ) -> engine.Cut:
        prune = self.spec.prune if state.resolved is None else state.resolved.prune
        if prune is None:
            return engine.UnitCut({}, (), state.progress)  # The target is met as it is.
        return engine.choose(
            state.model,
            prune,
            share=share,
            seed=self.spec.seed,
            progress=state.progress,
            evidence=evidence,
        )

    def _calibrate(
        self, model: Any, step: int, learned: Mapping[str, Any] | None = None
    ) -> engine.Evidence | None:
        """What the criterion needs to see of the model as it is now; None where that is nothing."""
        if isinstance(self.spec.prune.criterion, VariationalDropoutCriterion):
            return noise_evidence(model, learned or {})
        if not self.spec.prune.needs_data or self.data is None or self.objective is None:
            return None
        with self._phase("calibrating"):
            self._tell(step=step + 1)
            return collect(
                model, self.data, self.objective, self.spec.prune.criterion, self.spec.seed
            )

    def _keep_proof(self, state: JobState, proof: engine.Equality) -> None:
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

    def _shrink(self, state: JobState) -> None:
        """Let units go that zeros have killed. Training is over: nothing has to be held."""
        prune = self.spec.prune
        if prune.structured or not prune.shrink:
            return
        with self._phase("shrinking"):
            shrunk = engine.shrink(state.model, masks=state.masks, prune=prune, seed=self.spec.seed)
        state.model, state.masks = shrunk.model, shrunk.masks
        if shrunk.equality is not None:
            self._keep_proof(state, shrunk.equality)
            self._note(shrink_note(shrunk))
        elif shrunk.note is not None:
            self._note(shrunk.note)

    # --- fine-tune -------------------------------------------------------------------------
    def _fine_tune(self, state: JobState, step: int) -> None:
        spec = self.spec.fine_tune
        if spec is None or self.data is None or self.objective is None or state.step > step + 1:
            return
        final = step + 1 == len(engine.shares(self.spec.schedule))
        with self._phase("fine-tuning"):
            self._tuner(state, spec).train(self.pace.epochs_of(step), final=final)

    def _tuner(self, state: JobState, spec: FineTune) -> FineTuner:
        assert self.data is not None
        assert self.objective is not None
        criterion = self.spec.prune.criterion

        def on_batch(epoch: int, share: float, metrics: dict[str, float]) -> None:
            self._tell(
                step=state.step,
                epoch=self._epochs_before + state.epochs_done + 1,
                batch_share=share,
                metrics=metrics,
            )

        def on_epoch(figure: Any) -> None:
            progress = self.pace.at(
                "fine-tuning",
                step=state.step,
                epoch=self._epochs_before + figure.epoch,
                batch_share=0.0,
                metrics=figure.logs,
                epochs_finished=self._epochs_before + figure.epoch,
            )
            self.reporter.happened("epoch", figure.model_dump(), progress)
            if not self._epochs_apart:
                self._checkpoint(state)

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

    def _checkpoint(self, state: JobState, *, asked: bool = False) -> None:
        """Write one, unless that would cost too much of the time; `asked`: always."""
        now = time.monotonic()
        if not asked and self._checkpoint_cost > CHECKPOINT_SHARE * (now - self._checkpointed):
            return
        state.seconds = dict(self._seconds)
        # Its parent may still be reading the last one, and knows them by this number.
        done = max(self._epochs_before + state.epochs_done, self._last_checkpoint + 1)
        self._last_checkpoint = done
        name = f"checkpoint-{done}.zip"
        save(state, self.scratch / name)
        self.reporter.send(Saved(file=name, epoch=done))
        self._checkpointed = time.monotonic()
        self._checkpoint_cost = self._checkpointed - now

    # --- evaluate, measure, export ---------------------------------------------------------
    def _evaluated(self, model: Any, moment: str, counted: Any = None) -> State:
        counts = engine.count(model if counted is None else counted)
        found = {}
        with self._phase("evaluating"):
            if self.data is not None and self.objective is not None:
                found = evaluate(model, self.data.test, self.objective)
                self.reporter.happened(
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

    def _export(self, original: Any, final: Any, measured: Measured) -> Files:
        with self._phase("exporting"):
            if self.objective is not None:
                self._note(
                    "The downloaded model is compiled with its loss and a plain SGD, so that "
                    "evaluate() works; compile it anew to train on."
                )
                for model in (original, final):
                    self._compile(model)
            files = write_both(
                original,
                final,
                self.spec,
                self.scratch,
                measured,
                self._note,
                self._calibration(),
            )
            evaluate_quantised(files, self.spec, self.data, self.objective, measured, self._note)
            measured.files.update(look_at_files(files, final, self.spec, self.data, self._note))
        return files

    def _calibration(self) -> list[Any] | None:
        """Training samples that tell the ranges of activations."""
        if self.data is None:
            return None
        chosen = drawn(self.data.train, CALIBRATED_BY, self.spec.seed)
        return list(chosen.inputs.values())

    def _compile(self, model: Any) -> None:
        """As results are handed out, so that `load_model(...).evaluate(...)` works.

        Plain SGD has no state: Adam's would triple the file. Always alike, so that sizes compare.
        """
        if self.objective is not None:
            self.objective.compile(model, keras.optimizers.SGD(name="SGD"))

    def _measure(self, original: Any, final: Any, files: Files, measured: Measured) -> None:
        for asked in timings(self.spec):
            with self._phase("measuring"):
                time_both(original, final, files, asked, self.spec.seed, measured, self._note)
        if not self.spec.prune.structured and self.spec.evaluate.latency is not None:
            with self._phase("measuring"):
                measured.sparse.update(time_sparse(final, self.scratch, self.spec.seed))

    # --- report ----------------------------------------------------------------------------
    def _metrics(
        self, whole: Any, state: JobState, after: State, measured: Measured, lost: Lost | None
    ) -> Metrics:
        if state.before is None or state.pruned is None:
            raise InternalError("The job's state lacks its first figures.")
        before, after = measured.complete(state.before, after)
        draft = Metrics(
            before=before,
            pruned=state.pruned,
            after=after,
            equality=state.equality,
            files=measured.files,
            sensitivity=self._sensitivity(whole),
            per_layer=per_layer(
                engine.count(whole),
                engine.count(state.model),
                state.cut_notes,
                measured.sparse,
            ),
            history=tuple(state.history),
            target=target_figure(self.spec.prune, before, after, state.tally, state.resolved, lost),
            phases_seconds={name: round(value, 3) for name, value in self._seconds.items()},
            verdict=(),
            notes=tuple(self.notes),
            accuracy_measured=self.data is not None,
            unlabelled=self.order.dataset is not None and self.order.dataset.unlabelled,
            loss=self.objective.summary if self.objective else None,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            seed=self.spec.seed,
            versions={
                "secateur": version("secateur"),
                "python": sys.version.split()[0],
                **{name: version(name) for name in ("keras", "tensorflow", "numpy")},
                "litert": version("ai-edge-litert"),
                "onnxruntime": version("onnxruntime"),
            },
            device=device(),
        )
        return draft.model_copy(update={"verdict": verdict(draft, self.spec)})

    def _report(
        self, metrics: Metrics, analysed: ModelAnalysis, files: Files
    ) -> tuple[dict[str, Any], list[str]]:
        names = ["metrics.json", "report.html", "plots.svg", "plots.png"]
        for export in dict.fromkeys((*ALWAYS, *self.spec.exports)):
            _, path = files[export]
            names.append(path.replace(self.out / path.name).name)
        figures = finite(metrics.model_dump(mode="json", by_alias=True))
        (self.out / "metrics.json").write_text(
            json.dumps(figures, indent=2, allow_nan=False), encoding="utf-8"
        )
        (self.out / "report.html").write_text(
            render(metrics, self.order, analysed), encoding="utf-8"
        )
        for kind in ("svg", "png"):
            (self.out / f"plots.{kind}").write_bytes(overview(metrics, kind=kind))
        return figures, names

    # --- telling ---------------------------------------------------------------------------
    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        self.reporter.happened("phase", {"phase": name}, self.pace.at(name))
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def _tell(self, **where: Any) -> None:
        self.reporter.at(self.pace.at(self.pace.phase, **where))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.reporter.happened("note", {"text": text})


def device() -> str:
    """The processor's name and the number of cores that the job may use."""
    name = "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name}, {cores()} cores"
