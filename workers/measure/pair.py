"""Two models timed against each other on one runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from app.domain.metrics import LatencyValue
from app.domain.prune import Export, Runtime
from app.domain.spec import Latency
from workers.exports import formats
from workers.measure import latency as timing
from workers.measure.memory import peak_added

Files = Mapping[str, tuple[Path, Path]]
"""By format: the original's file and the final model's."""
FILE_OF: Mapping[Runtime, Export] = MappingProxyType(
    {"litert": "litert", "litert_sparse": "litert_sparse", "onnxruntime": "onnx"}
)
"""The format that a runtime reads, where it does not run the Keras model itself."""


@dataclass(frozen=True)
class Pair:
    """Two Keras models of the same inputs, and the files of both that runtimes read."""

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
    threads: int = 1,
) -> timing.Seconds:
    """Seconds of each call of both models, in turns, on random inputs.

    Args:
        pair: the models, and their files in the runtime's format (`FILE_OF`).
        runtime: where they run.
        batch_size: samples in a call.
        repeats: calls of each model; fewer when they would take longer than `budget_seconds`.
        seed: of the random inputs.
        budget_seconds: for all calls together.
        threads: of LiteRT and ONNX Runtime; Keras uses all of them.

    Raises:
        ValueError, RuntimeError, tensorflow.errors.OpError: the runtime cannot run a model.
    """
    inputs = timing.probe(pair.before, batch_size, seed)
    files = pair.files[FILE_OF[runtime]] if runtime in FILE_OF else (None, None)
    before, after = (
        _call(runtime, model, file, inputs, threads)
        for model, file in zip((pair.before, pair.after), files, strict=True)
    )
    return timing.compare(before, after, repeats, budget_seconds)


def peak_memory(pair: Pair, runtime: Runtime, seed: int) -> tuple[int | None, int | None]:
    """Bytes that opening each model's file and running one sample adds to this process.

    None where the runtime has no file of its own, or the system does not tell.

    Raises:
        ValueError, RuntimeError: the runtime cannot run a model.
    """
    if runtime not in FILE_OF:
        return None, None
    inputs = timing.probe(pair.before, 1, seed)
    open_one = timing.one_session if runtime == "onnxruntime" else timing.one_interpreter

    def once(file: Path) -> timing.Call:
        call = open_one(file, inputs)
        call()
        return call

    before, after = pair.files[FILE_OF[runtime]]
    # A runtime's first model brings its libraries' pages into memory, which are not the model's.
    once(before)
    return peak_added(lambda: once(before)), peak_added(lambda: once(after))


def thread_counts(asked: Latency, runtime: Runtime) -> tuple[int, ...]:
    """How many threads a runtime is timed with, one figure for each; the fewest first."""
    if runtime not in FILE_OF:
        return (timing.cores(),)
    counts = {"one": 1, "all": timing.cores()}
    return tuple(sorted({counts[threads] for threads in asked.threads}))


def figures(
    runtime: Runtime, batch_size: int, seconds: timing.Seconds, threads: int = 1
) -> tuple[LatencyValue, LatencyValue]:
    """Both models' medians and 95th percentiles in ms.

    The second has the median ratio of neighbouring calls, and its 95 % interval.
    """
    threads = threads if runtime in FILE_OF else timing.cores()
    first, second = (timing.figure(runtime, batch_size, threads, each) for each in seconds)
    ratio, interval = timing.speed_up(*seconds)
    return first, second.model_copy(update={"speed_up": ratio, "speed_up_interval": interval})


def time_models(
    before: Any,
    after: Any,
    runtime: Runtime,
    *,
    batch_size: int = 1,
    repeats: int = 50,
    seed: int = 0,
) -> tuple[LatencyValue, LatencyValue]:
    """`time_pair` of two Keras models that have no files yet; they are written, and gone again.

    Raises:
        EngineRefusal: the runtime's format cannot express a model.
    """
    with TemporaryDirectory() as scratch:
        files: dict[str, tuple[Path, Path]] = {}
        if runtime in FILE_OF:
            folders = Path(scratch, "before"), Path(scratch, "after")
            for folder in folders:
                folder.mkdir()
            files[FILE_OF[runtime]] = (
                formats.write(before, FILE_OF[runtime], folders[0]),
                formats.write(after, FILE_OF[runtime], folders[1]),
            )
        pair = Pair(before, after, files)
        return figures(runtime, batch_size, time_pair(pair, runtime, batch_size, repeats, seed))


def _call(
    runtime: Runtime, model: Any, file: Path | None, inputs: Mapping[str, Any], threads: int
) -> timing.Call:
    if file is None:
        return timing.keras_call(model, inputs)
    match runtime:
        case "litert" | "litert_sparse":
            return timing.litert_call(file, inputs, threads)
        case "onnxruntime":
            return timing.onnxruntime_call(file, inputs, threads)
        case _:
            raise ValueError(f"runtime {runtime} reads no file")
