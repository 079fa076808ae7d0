"""Two models timed against each other on one runtime."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from app.domain.metrics import LatencyValue
from app.domain.spec import Export, Runtime
from workers.exports import formats
from workers.measure import latency as timing

Files = Mapping[str, tuple[Path, Path]]
"""By format: the original's file and the final model's."""
FILE_OF: Mapping[Runtime, Export] = MappingProxyType({"litert": "litert", "onnxruntime": "onnx"})
"""The format that a runtime reads, where it does not run the Keras model itself."""


def time_pair(
    before: Any,
    after: Any,
    runtime: Runtime,
    files: Files,
    *,
    batch_size: int = 1,
    repeats: int = 50,
    seed: int = 0,
) -> tuple[LatencyValue, LatencyValue]:
    """Time two Keras models of the same inputs, call by call in turns.

    LiteRT and ONNX Runtime use one thread, Keras all of them.

    Args:
        before: the model that is compared with.
        after: the model whose `speed_up` is wanted.
        runtime: where they run.
        files: both models' files in the runtime's format (`FILE_OF`).
        batch_size: samples in a call.
        repeats: calls of each model; fewer when they would take longer than 20 s.
        seed: of the random inputs.

    Returns:
        Both models' medians and 95th percentiles in ms; the second with the median ratio of
        neighbouring calls, and its 95 % interval.

    Raises:
        ValueError, RuntimeError, tensorflow.errors.OpError: the runtime cannot run a model.
    """
    inputs = timing.probe(before, batch_size, seed)
    pair = files[FILE_OF[runtime]] if runtime in FILE_OF else (None, None)
    calls = [
        _call(runtime, model, file, inputs)
        for model, file in zip((before, after), pair, strict=True)
    ]
    seconds = timing.compare(calls[0], calls[1], repeats)
    threads = 1 if runtime in FILE_OF else timing.cores()
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
        return time_pair(
            before, after, runtime, files, batch_size=batch_size, repeats=repeats, seed=seed
        )


def _call(
    runtime: Runtime, model: Any, file: Path | None, inputs: Mapping[str, Any]
) -> timing.Call:
    if file is None:
        return timing.keras_call(model, inputs)
    match runtime:
        case "litert":
            return timing.litert_call(file, inputs)
        case "onnxruntime":
            return timing.onnxruntime_call(file, inputs)
        case _:
            raise ValueError(f"runtime {runtime} reads no file")
