"""Sizes and latencies of the original and the final model, measured alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.domain.errors import EngineRefusal
from app.domain.metrics import LatencyValue, State
from app.domain.spec import BytesTarget, Export, Latency, LatencyTarget, PruningSpec, Runtime
from workers.exports import formats
from workers.measure import latency as timing
from workers.measure.sizes import compressed_bytes

Note = Callable[[str], None]
ALWAYS: tuple[Export, ...] = ("keras",)
"""Every job hands back a .keras file."""
FILES: Mapping[Runtime, Export] = MappingProxyType({"litert": "litert", "onnxruntime": "onnx"})
"""What a runtime reads; the others run the model itself."""


@dataclass
class Figures:
    """What is measured of one model."""

    bytes: dict[str, int] = field(default_factory=dict)
    compressed_bytes: dict[str, int] = field(default_factory=dict)
    latency: list[LatencyValue] = field(default_factory=list)

    def complete(self, state: State) -> State:
        """A state with these figures."""
        return state.model_copy(
            update={
                "bytes": self.bytes,
                "compressed_bytes": self.compressed_bytes,
                "latency": tuple(self.latency),
            }
        )


@dataclass
class Measured:
    """Both models' figures."""

    before: Figures = field(default_factory=Figures)
    after: Figures = field(default_factory=Figures)

    def complete(self, before: State, after: State) -> tuple[State, State]:
        """Both states with their figures."""
        return self.before.complete(before), self.after.complete(after)


Files = Mapping[str, tuple[Path, Path]]
"""By format: the original's file and the final model's."""


def timings(spec: PruningSpec) -> tuple[Latency, ...]:
    """What is timed in the end: what the spec lists, and what its target is about."""
    listed = spec.evaluate.latency
    rows = () if listed is None else (listed,)
    target = spec.prune.target
    if not isinstance(target, LatencyTarget) or (
        listed is not None
        and target.runtime in listed.runtimes
        and target.batch_size in listed.batch_sizes
    ):
        return rows
    more = {"runtimes": (target.runtime,), "batch_sizes": (target.batch_size,)}
    return (*rows, (listed or Latency()).model_copy(update=more))


def write_both(
    original: Any, final: Any, spec: PruningSpec, scratch: Path, measured: Measured, note: Note
) -> Files:
    """Write and size both models in every format that is asked for or timed.

    Raises:
        EngineRefusal: a format that was asked for cannot express the model.
    """
    runtimes = [runtime for asked in timings(spec) for runtime in asked.runtimes]
    timed = [FILES[runtime] for runtime in runtimes if runtime in FILES]
    target = spec.prune.target
    sized = (target.export,) if isinstance(target, BytesTarget) else ()
    files: dict[str, tuple[Path, Path]] = {}
    for export in dict.fromkeys((*ALWAYS, *spec.exports, *timed, *sized)):
        try:
            files[export] = (
                _sized(original, export, scratch / "before", measured.before),
                _sized(final, export, scratch / "after", measured.after),
            )
        except EngineRefusal as refusal:
            if export in spec.exports:
                raise
            note(f"Not measured on {export}: {refusal.detail}")
    return files


def sized(state: State, model: Any, scratch: Path) -> State:
    """A state with the sizes of the model as a .keras file."""
    figures = Figures()
    _sized(model, "keras", scratch / "pruned", figures)
    return figures.complete(state)


def _sized(model: Any, export: Export, folder: Path, figures: Figures) -> Path:
    folder.mkdir(exist_ok=True)
    path = formats.write(model, export, folder)
    figures.bytes[export] = path.stat().st_size
    figures.compressed_bytes[export] = compressed_bytes(path)
    return path


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
        if runtime in FILES and FILES[runtime] not in files:
            continue
        try:
            for batch_size in asked.batch_sizes:
                pair = Pair(original, final, files)
                seconds = time_pair(pair, runtime, batch_size, asked.repeats, seed)
                _keep(measured, runtime, batch_size, seconds)
        except (ValueError, RuntimeError) as error:
            note(f"Not measured on {runtime}: {first_sentence(error)}.")


@dataclass(frozen=True)
class Pair:
    """Two models, and the files that runtimes read."""

    before: Any
    after: Any
    files: Files


def time_pair(
    pair: Pair,
    runtime: Runtime,
    batch_size: int,
    repeats: int,
    seed: int,
    budget_seconds: float = timing.BUDGET_SECONDS,
) -> timing.Seconds:
    """Seconds of each call of both models, in turns, on random inputs.

    Raises:
        ValueError, RuntimeError: the runtime cannot run a model.
    """
    inputs = timing.probe(pair.before, batch_size, seed)
    calls = _calls(runtime, pair.before, pair.after, pair.files, inputs)
    return timing.compare(*calls, repeats, budget_seconds)


def _keep(measured: Measured, runtime: Runtime, batch_size: int, seconds: timing.Seconds) -> None:
    threads = 1 if runtime == "litert" else timing.cores()
    before, after = (timing.figure(runtime, batch_size, threads, values) for values in seconds)
    ratio, interval = timing.speed_up(*seconds)
    measured.before.latency.append(before)
    measured.after.latency.append(
        after.model_copy(update={"speed_up": ratio, "speed_up_interval": interval})
    )


def first_sentence(error: Exception) -> str:
    """What a runtime said, without its advice on other platforms."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "Select TensorFlow op" in text:
        return "the model needs TensorFlow operations that LiteRT alone does not have"
    return text.split(". ")[0][:300].rstrip(".")


def _calls(
    runtime: Runtime,
    original: Any,
    final: Any,
    files: Files,
    inputs: Mapping[str, Any],
) -> tuple[timing.Call, timing.Call]:
    match runtime:
        case "keras":
            return timing.keras_call(original, inputs), timing.keras_call(final, inputs)
        case "litert":
            first, second = files["litert"]
            return timing.litert_call(first, inputs), timing.litert_call(second, inputs)
