"""Which files are written for a job, and what becomes of formats that cannot express a model."""

from pathlib import Path
from typing import Any

import keras
import pytest

from app.domain.errors import EngineRefusal
from app.domain.spec import Evaluate, Latency, PruningSpec
from workers.exports import formats
from workers.measure.compare import Measured, time_both, timings, write_both
from workers.measure.pair import thread_counts


def tiny() -> Any:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def spectral() -> Any:
    """ONNX has no counterpart for the real part of a Fourier transform."""
    i = keras.Input((8,))
    return keras.Model(i, keras.ops.rfft(i)[0])


def spec(exports: list[str], runtimes: list[str]) -> PruningSpec:
    return PruningSpec.model_validate(
        {
            "model": "mdl_1",
            "prune": {"target": {"kind": "fraction", "remove": 0.5}},
            "exports": exports,
            "evaluate": {
                "latency": {"runtimes": runtimes, "batch_sizes": [1, 2], "repeats": 5},
            },
        }
    )


def measured(model: Any, asked: PruningSpec, scratch: Path) -> tuple[Measured, list[str]]:
    found, notes = Measured(), list[str]()
    files = write_both(model, model, asked, scratch, found, notes.append)
    assert isinstance(asked.evaluate.latency, Latency)
    time_both(model, model, files, asked.evaluate.latency, 0, found, notes.append)
    return found, notes


def test_what_is_timed_is_written_and_timed_on_one_thread(tmp_path: Path) -> None:
    found, notes = measured(tiny(), spec(["keras"], ["onnxruntime"]), tmp_path)
    assert notes == []
    assert set(found.after.bytes) == {"keras", "onnx"}
    assert [(one.runtime, one.batch_size, one.threads) for one in found.after.latency] == [
        ("onnxruntime", 1, 1),
        ("onnxruntime", 2, 1),
    ]
    assert all(one.speed_up is not None for one in found.after.latency)
    assert all(one.speed_up is None for one in found.before.latency)


def test_what_onnx_cannot_express_is_a_note_when_only_timed(tmp_path: Path) -> None:
    found, notes = measured(spectral(), spec(["keras"], ["onnxruntime"]), tmp_path)
    assert found.after.latency == []
    assert set(found.before.bytes) == set(found.after.bytes) == {"keras"}
    (note,) = notes
    assert note.startswith("Not measured on onnxruntime: The model cannot be exported as onnx")


def test_what_onnx_cannot_express_is_refused_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal, match="cannot be exported as onnx"):
        measured(spectral(), spec(["keras", "onnx"], ["keras"]), tmp_path)


def test_a_file_that_computes_something_else_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, other = formats.WRITERS["onnx"], tiny()
    monkeypatch.setitem(formats.WRITERS, "onnx", lambda _, path, data: write(other, path, data))
    with pytest.raises(EngineRefusal, match="computes something else"):
        measured(tiny(), spec(["keras", "onnx"], ["keras"]), tmp_path)


def test_a_runtime_that_fails_is_a_note(tmp_path: Path) -> None:
    """Index 5 in a vocabulary of 2: the Embedding behind the cast is not seen by the probe."""
    i = keras.Input((4,))
    x = keras.layers.Embedding(2, 3)(keras.ops.cast(i + 5.0, "int32"))
    model = keras.Model(i, keras.layers.Flatten()(x))
    _, notes = measured(model, spec(["keras"], ["keras"]), tmp_path)
    (note,) = notes
    assert note.startswith("Not measured on keras: ")


def test_one_and_all_threads_are_two_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two stand for "all", however many this machine has.
    monkeypatch.setattr("workers.measure.latency.cores", lambda: 2)
    asked = spec(["keras"], ["keras", "litert", "onnxruntime"])
    latency = {"runtimes": ["keras", "litert", "onnxruntime"], "batch_sizes": [1], "repeats": 5}
    both = Latency.model_validate(latency | {"threads": ["all", "one"]})
    asked = asked.model_copy(update={"evaluate": Evaluate(latency=both)})
    found, notes = measured(tiny(), asked, tmp_path)
    assert notes == []
    rows = [(one.runtime, one.threads) for one in found.after.latency]
    assert rows == [
        ("keras", 2),
        ("litert", 1),
        ("litert", 2),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
    ]


def test_where_there_is_one_core_all_threads_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.measure.latency.cores", lambda: 1)
    assert thread_counts(Latency(threads=("one", "all")), "litert") == (1,)


def test_a_latency_target_is_timed_with_one_thread_though_all_are_listed() -> None:
    asked = PruningSpec.model_validate(
        {
            "model": "mdl_1",
            "prune": {"target": {"kind": "latency", "batch_size": 1, "keep": 0.5}},
            "evaluate": {"latency": {"batch_sizes": [1], "threads": ["all"]}},
        }
    )
    listed, added = timings(asked)
    assert listed.threads == ("all",)
    assert (added.runtimes, added.batch_sizes, added.threads) == (("litert",), (1,), ("one",))
