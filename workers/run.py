"""A job in a sentence: load, search, prune, fine-tune, evaluate, export, measure, report."""

import json
import resource
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from app.domain.analysis import ModelAnalysis
from app.domain.errors import InternalError
from app.domain.job import Order
from app.domain.metrics import Metrics, SensitivityFigure, State, TrialFigure
from app.domain.prune import AccuracyDropTarget
from app.domain.spec import Latency
from app.plots.job import overview
from workers import engine
from workers.analysis import analysis, look
from workers.evaluation.files import evaluate_quantised, look_at_files
from workers.evaluation.lost import Lost, lost, right
from workers.exports.formats import write
from workers.least import Least
from workers.loading import completed, load
from workers.measure.compare import ALWAYS, Measured, time_both, timings, write_both
from workers.measure.latency import cores
from workers.measure.pair import Files
from workers.measure.sparse import time_sparse
from workers.pace import Pace
from workers.plan import plan
from workers.protocol import Reporter, finite
from workers.pruner import Pruner
from workers.report.figures import per_layer
from workers.report.html import render
from workers.report.target import target_figure
from workers.report.verdict import verdict
from workers.search.measures import as_trained
from workers.search.resolve import BYTES_TRIALS, Bench, Resolved, is_searched, resolve
from workers.search.sensitivity import sensitivity
from workers.telling import Telling
from workers.training.control import dense_spec
from workers.training.data import Data, load_data
from workers.training.evidence import drawn
from workers.training.objective import Objective
from workers.training.state import JobState, restore
from workers.training.teaching import Teacher
from workers.training.unlabelled import settled

CALIBRATED_BY = 200
"""Training samples that tell the ranges of activations, for files of 8 bits."""


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
        self.telling = Telling(reporter, Pace(self.spec))
        self.out = Path(order.out)
        self.scratch = Path(order.scratch)
        self.data: Data | None = None
        self.objective: Objective | None = None
        self._trials = 0

    def run(self) -> tuple[dict[str, Any], list[str]]:
        """The sentence."""
        original = self._load()
        apart = self._taken_apart(original)
        self.pruner = Pruner(
            *(self.spec, self.telling, self.scratch, self.data, self.objective), Teacher(original)
        )
        state = self._start(original, apart.model)
        if isinstance(self.spec.prune.target, AccuracyDropTarget):
            least = Least(self.pruner, self.spec.prune.target)
            state = least.found(state, original, apart.model)
        else:
            self.pruner.cut_and_train(state)
        self.pruner.shrink(state)
        after = self.pruner.evaluated(state.model, "after")
        measured = Measured()
        files = self._export(original, state.model, measured)
        self._measure(original, state.model, files, measured)
        lost = self._lost(original, state.model)
        metrics = self._metrics(apart.model, state, after, measured, lost)
        return self._report(metrics, look(apart.model, self.spec.model, apart), files)

    # --- load ------------------------------------------------------------------------------
    def _load(self) -> Any:
        order = self.order
        with self.telling.phase("loading"):
            model = load(Path(order.model_path), order.model, self.scratch)
            if "h5" in self.spec.exports:
                # Keras writes some that nobody can load, which must be said before the training.
                write(model, "h5", self.scratch).unlink()
            if order.dataset is not None and order.dataset_path is not None:
                info = completed(model, order.model)
                data = load_data(
                    *(Path(order.dataset_path), order.dataset, info, self.spec.seed),
                    judging=self.spec.prune.judges,
                )
                self.data, self.objective = settled(
                    data, order.dataset, model, order.model.training, self.spec
                )
                for note in (*self.data.notes, *self.objective.notes):
                    self.telling.note(note)
        return model

    def _taken_apart(self, original: Any) -> engine.Inlined:
        """What is cut: the original, or what its layers of KerasHub are made of."""
        with self.telling.phase("loading"):
            apart = engine.inlined(original, seed=self.spec.seed)
        for note in apart.notes:
            self.telling.note(note)
        return apart

    def _start(self, original: Any, whole: Any) -> JobState:
        """The state to go on from; `whole` is the uncut model that the first step cuts."""
        if self.order.checkpoint_path is not None:
            state = restore(Path(self.order.checkpoint_path), self.scratch)
            self.telling.seconds.update(state.seconds)
            self.telling.note(f"Resumed after epoch {state.epochs_done} of an interrupted attempt.")
            return state
        state = JobState(model=whole, progress=engine.begin(whole, self.spec.prune))
        state.before = self.pruner.evaluated(original, "before", counted=whole)
        state.resolved = self._search(whole)
        if whole is not original:
            self.pruner.keep_proof(state, engine.prove_same(original, whole, seed=self.spec.seed))
        return state

    # --- search ----------------------------------------------------------------------------
    def _search(self, original: Any) -> Resolved | None:
        """Bytes and latency: the target of parameters or MACs that reaches them. Scope sensitivity:
        the share of each layer."""
        spec = self.spec
        if spec.prune.judges:
            return None
        allocator = self.pruner.allocator(original)
        if allocator is not None:
            return Resolved(prune=spec.prune, allocation=dict(allocator(spec.prune)))
        if not is_searched(spec.prune):
            return None
        listed = spec.evaluate.latency or Latency()
        evidence = self.pruner.calibrate(original, 0)
        with self.telling.phase("search"):
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
            self.telling.note(f"Search for the target: {resolved.note}.")
        return resolved

    def _like_results(self, model: Any) -> None:
        self._compile(model)
        if self.spec.fine_tune is not None:
            as_trained(model, self.spec.seed)

    def _tell_trial(self, trial: TrialFigure) -> None:
        self._trials += 1
        progress = self.telling.pace.at("search", searched=self._trials / BYTES_TRIALS)
        self.telling.reporter.happened("trial", trial.model_dump(), progress)

    def _lost(self, original: Any, final: Any) -> Lost | None:
        """Of accuracy, on test samples, where the target asks."""
        if self.data is None or self.objective is None:
            return None
        if not self.spec.prune.judges:
            return None
        with self.telling.phase("evaluating"):
            models = (original, final)
            return lost(*(right(each, self.data.test, self.objective) for each in models))

    def _sensitivity(self, whole: Any) -> SensitivityFigure | None:
        """What each layer of the original bears, where that is asked."""
        asked = self.spec.evaluate.sensitivity
        if asked is None or self.data is None or self.objective is None:
            return None
        evidence = self.pruner.calibrate(whole, 0)
        with self.telling.phase("evaluating"):
            return sensitivity(
                *(whole, self.spec.prune, asked, self.data, self.objective),
                self.spec.seed,
                evidence,
            )

    # --- evaluate, measure, export ---------------------------------------------------------

    def _export(self, original: Any, final: Any, measured: Measured) -> Files:
        with self.telling.phase("exporting"):
            if self.objective is not None:
                self.telling.note(
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
                self.telling.note,
                self._calibration(),
            )
            note = self.telling.note
            evaluate_quantised(files, self.spec, self.data, self.objective, measured, note)
            measured.files.update(look_at_files(files, final, self.spec, self.data, note))
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
            with self.telling.phase("measuring"):
                time_both(
                    original, final, files, asked, self.spec.seed, measured, self.telling.note
                )
        if not self.spec.prune.structured and self.spec.evaluate.latency is not None:
            with self.telling.phase("measuring"):
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
            phases_seconds={name: round(value, 3) for name, value in self.telling.seconds.items()},
            verdict=(),
            notes=tuple(self.telling.notes),
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
            confinement=self.order.confinement,
        )
        return draft.model_copy(update={"verdict": verdict(draft, self.spec)})

    def _report(
        self, metrics: Metrics, analysed: ModelAnalysis, files: Files
    ) -> tuple[dict[str, Any], list[str]]:
        names = ["metrics.json", "report.html", "plots.svg", "plots.png"]
        for export in dict.fromkeys((*ALWAYS, *self.spec.exports)):
            _, path = files[export]
            # Landlock's first version lets nobody rename from folder to folder; this copies then.
            names.append(Path(shutil.move(path, self.out / path.name)).name)
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
