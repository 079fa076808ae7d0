"""Sizes and latencies of the original and the final model, measured alike."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from app.domain.errors import EngineRefusal
from app.domain.metrics import FileFigure, LatencyValue, MetricValue, SparseFigure, State
from app.domain.prune import QUANTISED, BytesTarget, Export, LatencyTarget
from app.domain.spec import Latency, PruningSpec
from workers.evaluation.exported import ensure_runs
from workers.exports import formats
from workers.exports.formats import Calibration
from workers.measure.agreement import computed, ensure_agreement
from workers.measure.latency import probe
from workers.measure.pair import (
    FILE_OF,
    Files,
    Pair,
    figures,
    peak_memory,
    thread_counts,
    time_pair,
)
from workers.measure.sizes import compressed_bytes, zstd_bytes

Note = Callable[[str], None]
ALWAYS: tuple[Export, ...] = ("keras",)
"""Every job hands back a .keras file."""
RUNTIME_OF = {export: runtime for runtime, export in FILE_OF.items()}


@dataclass
class Figures:
    """What is measured of one model."""

    bytes: dict[str, int] = field(default_factory=dict)
    compressed_bytes: dict[str, int] = field(default_factory=dict)
    zstd_bytes: dict[str, int] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    latency: list[LatencyValue] = field(default_factory=list)
    exported: dict[str, dict[str, MetricValue]] = field(default_factory=dict)

    def size(self, export: Export, file: Path) -> None:
        """Measure a file."""
        self.bytes[export] = file.stat().st_size
        self.compressed_bytes[export] = compressed_bytes(file)
        self.zstd_bytes[export] = zstd_bytes(file)

    def complete(self, state: State) -> State:
        """A state with these figures."""
        return state.model_copy(
            update={
                "bytes": self.bytes,
                "compressed_bytes": self.compressed_bytes,
                "zstd_bytes": self.zstd_bytes,
                "memory_bytes": self.memory_bytes,
                "latency": tuple(self.latency),
                "exported": self.exported,
            }
        )


@dataclass
class Measured:
    """Both models' figures, and what is known of the final model's files and layers."""

    before: Figures = field(default_factory=Figures)
    after: Figures = field(default_factory=Figures)
    files: dict[str, FileFigure] = field(default_factory=dict)
    sparse: dict[str, SparseFigure] = field(default_factory=dict)
    """By layer."""

    def complete(self, before: State, after: State) -> tuple[State, State]:
        """Both states with their figures."""
        return self.before.complete(before), self.after.complete(after)


def timings(spec: PruningSpec) -> tuple[Latency, ...]:
    """What is timed in the end: what the spec lists, and what its target is about."""
    listed = _with_sparse_files(spec)
    rows = () if listed is None else (listed,)
    target = spec.prune.target
    if not isinstance(target, LatencyTarget) or (
        listed is not None
        and target.runtime in listed.runtimes
        and target.batch_size in listed.batch_sizes
        and "one" in listed.threads
    ):
        return rows
    more = {
        "runtimes": (target.runtime,),
        "batch_sizes": (target.batch_size,),
        "threads": ("one",),
    }
    return (*rows, (listed or Latency()).model_copy(update=more))


def _with_sparse_files(spec: PruningSpec) -> Latency | None:
    """The spec's own; sparse LiteRT files that are handed out are timed wherever dense ones are."""
    listed = spec.evaluate.latency
    if listed is None or "litert_sparse" not in spec.exports or "litert" not in listed.runtimes:
        return listed
    runtimes = dict.fromkeys((*listed.runtimes, "litert_sparse"))
    return listed.model_copy(update={"runtimes": tuple(runtimes)})


def write_both(
    original: Any,
    final: Any,
    spec: PruningSpec,
    scratch: Path,
    measured: Measured,
    note: Note,
    calibration: Calibration | None = None,
) -> Files:
    """Write and size both models in every format that is asked for or timed.

    ONNX files must compute what the model computes, quantised files must run. `calibration` are
    training samples, for files of 8 bits.

    Raises:
        EngineRefusal: a format that was asked for cannot express the model, or its file computes
            something else.
    """
    runtimes = [runtime for asked in timings(spec) for runtime in asked.runtimes]
    timed = [FILE_OF[runtime] for runtime in runtimes if runtime in FILE_OF]
    target = spec.prune.target
    sized = (target.export,) if isinstance(target, BytesTarget) else ()
    files: dict[str, tuple[Path, Path]] = {}
    for export in dict.fromkeys((*ALWAYS, *spec.exports, *timed, *sized)):
        try:
            files[export] = (
                _written(original, export, scratch / "before", spec.seed, calibration),
                _written(final, export, scratch / "after", spec.seed, calibration),
            )
        except EngineRefusal as refusal:
            if export in (*ALWAYS, *spec.exports, *sized):
                raise
            note(f"Not measured on {RUNTIME_OF[export]}: {refusal.detail}")
            continue
        for mine, file in zip((measured.before, measured.after), files[export], strict=True):
            mine.size(export, file)
    return files


def sized(state: State, model: Any, scratch: Path) -> State:
    """A state with the sizes of the model as a .keras file."""
    mine = Figures()
    mine.size("keras", _written(model, "keras", scratch / "pruned", seed=0))
    return mine.complete(state)


def _written(
    model: Any, export: Export, folder: Path, seed: int, calibration: Calibration | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    file = formats.write(model, export, folder, calibration)
    if export == "onnx":
        ensure_agreement(model, file, seed=seed)
    if export in QUANTISED:
        inputs = probe(model, 2, seed)
        ensure_runs(file, inputs, computed(model, inputs))
    return file


def time_both(
    original: Any,
    final: Any,
    files: Files,
    asked: Latency,
    seed: int,
    measured: Measured,
    note: Note,
) -> None:
    """Time both models on each runtime at each batch size; what cannot be timed is noted."""
    for runtime in asked.runtimes:
        if runtime in FILE_OF and FILE_OF[runtime] not in files:
            continue
        try:
            memory = peak_memory(Pair(original, final, files), runtime, seed)
            for mine, peak in zip((measured.before, measured.after), memory, strict=True):
                if peak is not None:
                    mine.memory_bytes[runtime] = peak
            rows = itertools.product(thread_counts(asked, runtime), asked.batch_sizes)
            for threads, batch_size in rows:
                pair = Pair(original, final, files)
                seconds = time_pair(pair, runtime, batch_size, asked.repeats, seed, threads=threads)
                before, after = figures(runtime, batch_size, seconds, threads)
                measured.before.latency.append(before)
                measured.after.latency.append(after)
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            note(f"Not measured on {runtime}: {first_sentence(error)}.")


def first_sentence(error: Exception) -> str:
    """What a runtime said, without its advice on other platforms."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "Select TensorFlow op" in text:
        return "the model needs TensorFlow operations that LiteRT alone does not have"
    return text.split(". ")[0][:300].rstrip(".")
