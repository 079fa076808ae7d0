"""Real files and one real timing, through `resolve`; made-up timings for what must be exact."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.errors import EngineRefusal
from app.domain.metrics import TrialFigure
from app.domain.prune import LatencyTarget, Prune
from tests.workers.engine.zoo import lenet, randomise
from workers import engine
from workers.exports.formats import write
from workers.measure import pair as pairs
from workers.search.measures import reading
from workers.search.resolve import Bench, Resolved, resolve


@pytest.fixture(scope="module")
def net() -> Any:
    """20·48 + 48 + 48·24 + 24 + 24·4 + 4 = 2284 parameters, 2208 MACs; a unit is some 2 %."""
    dense = [keras.layers.Dense(units, activation="relu") for units in (48, 24)]
    return randomise(keras.Sequential([keras.Input((20,)), *dense, keras.layers.Dense(4)]))


def bench(folder: Path, **fields: Any) -> Bench:
    return Bench(**{"folder": folder, "seed": 0, "prepare": lambda m: None, "repeats": 9, **fields})


def search(model: Any, target: dict[str, Any], bench: Bench) -> Resolved:
    prune = Prune.model_validate({"scope": "global", "target": target})
    resolved = resolve(model, prune, lambda spec: engine.choose(model, spec), bench)
    assert resolved is not None
    return resolved


def cut(model: Any, resolved: Resolved) -> Any:
    assert resolved.prune is not None
    return engine.apply(model, engine.choose(model, resolved.prune))


class Clock:
    """Seconds of a call: a millisecond and a microsecond per MAC, without noise."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def time_pair(self, pair: pairs.Pair, *asked: Any) -> Any:
        self.calls.append((*asked, sorted(pair.files)))
        times = [1e-3 + 1e-6 * engine.count(model).macs for model in (pair.before, pair.after)]
        return tuple(np.full(9, time) for time in times)


@pytest.mark.parametrize("export", ["keras", "h5", "litert"])
def test_files_end_close_below_the_size(net: Any, tmp_path: Path, export: Any) -> None:
    size = round(0.8 * write(net, export, tmp_path).stat().st_size)
    resolved = search(net, {"kind": "bytes", "export": export, "max": size}, bench(tmp_path))
    written = write(cut(net, resolved), export, tmp_path).stat().st_size
    assert written == resolved.value
    assert written <= size
    # HDF5 grows in blocks of 2048 bytes.
    assert written >= 0.99 * size or "units are discrete" in (resolved.note or "")
    assert len(resolved.trials) <= 16


def test_convolutions_end_below_the_size_too(tmp_path: Path) -> None:
    model = randomise(lenet())
    resolved = search(model, {"kind": "bytes", "export": "keras", "max": 34_000}, bench(tmp_path))
    assert 0.98 * 34_000 <= resolved.value <= 34_000  # type: ignore[operator]
    assert write(cut(model, resolved), "keras", tmp_path).stat().st_size == resolved.value


def test_results_are_compiled_before_they_are_weighed(net: Any, tmp_path: Path) -> None:
    seen: list[str] = []
    told = bench(tmp_path, prepare=lambda model: seen.append(model.name))
    resolved = search(net, {"kind": "bytes", "export": "keras", "max": 25_000}, told)
    assert len(seen) == len(resolved.trials)


def test_a_file_that_fits_is_left_alone(net: Any, tmp_path: Path) -> None:
    resolved = search(net, {"kind": "bytes", "export": "keras", "max": 10**6}, bench(tmp_path))
    assert resolved.prune is None
    assert resolved.note is not None
    assert resolved.note.startswith("already fits: the original measures ")
    assert resolved.note.endswith(" bytes as keras")


def test_a_size_below_the_smallest_is_refused_with_that_size(net: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineRefusal) as caught:
        search(net, {"kind": "bytes", "export": "h5", "max": 100}, bench(tmp_path))
    smallest = (tmp_path / "model.h5").stat().st_size
    assert f"measures {smallest:,} bytes as h5" in caught.value.detail


def test_a_format_that_cannot_express_the_model_is_named(net: Any, tmp_path: Path) -> None:
    def broken(model: Any) -> None:
        (tmp_path / "model.keras").mkdir(exist_ok=True)

    with pytest.raises(EngineRefusal, match="The target needs the model as keras"):
        search(net, {"kind": "bytes", "max": 100}, bench(tmp_path, prepare=broken))


@pytest.mark.parametrize("keep", [0.6, 0.9])
def test_a_share_of_the_time_is_reached_by_macs(net: Any, tmp_path: Path, keep: float) -> None:
    clock = Clock()
    told: list[TrialFigure] = []
    target = {"kind": "latency", "runtime": "keras", "batch_size": 3, "keep": keep}
    resolved = search(net, target, bench(tmp_path, time_pair=clock.time_pair, tell=told.append))
    macs = engine.count(cut(net, resolved)).macs
    assert resolved.value == pytest.approx((1e-3 + 1e-6 * macs) / (1e-3 + 1e-6 * 2208))
    assert keep * 0.98 <= resolved.value <= keep * 1.02  # type: ignore[operator]
    assert all(call == ("keras", 3, 9, 0, 20.0, []) for call in clock.calls)
    assert (told[0].keep, told[0].value) == (1.0, 1.0)
    assert tuple(told) == resolved.trials
    assert len(clock.calls) <= 8


def test_milliseconds_are_absolute_and_files_are_written_once_for_the_original(
    net: Any, tmp_path: Path
) -> None:
    clock = Clock()
    target = {"kind": "latency", "runtime": "litert", "max_ms": 2.0}
    resolved = search(net, target, bench(tmp_path, time_pair=clock.time_pair))
    assert 2.0 * 0.98 <= resolved.value <= 2.0 * 1.02  # type: ignore[operator]
    assert resolved.trials[0].value == pytest.approx(1 + 1e-3 * 2208)
    assert all(call[-1] == ["litert"] for call in clock.calls)


def test_a_time_below_the_floor_is_refused_with_it_and_the_cost_of_a_call(
    net: Any, tmp_path: Path
) -> None:
    clock = Clock()
    target = {"kind": "latency", "runtime": "keras", "max_ms": 0.5}
    with pytest.raises(EngineRefusal, match=r"measures 1\.025 ms on keras") as caught:
        search(net, target, bench(tmp_path, time_pair=clock.time_pair))
    assert "Without any MACs it would still be about 1 ms" in caught.value.detail


def test_a_runtime_that_cannot_run_the_model_is_named(net: Any, tmp_path: Path) -> None:
    def broken(*asked: Any) -> Any:
        raise RuntimeError("Select TensorFlow op(s)")

    target = {"kind": "latency", "runtime": "litert", "keep": 0.5}
    with pytest.raises(EngineRefusal, match=r"does not run on litert: .* Name another runtime"):
        search(net, target, bench(tmp_path, time_pair=broken))


def test_a_dry_run_times_the_smallest_cut_alone(net: Any, tmp_path: Path) -> None:
    clock = Clock()
    target = {"kind": "latency", "runtime": "keras", "keep": 0.6}
    resolved = search(net, target, bench(tmp_path, time_pair=clock.time_pair, quick=True))
    assert not resolved.measured
    assert len(clock.calls) == 1
    assert resolved.value == pytest.approx(0.6, rel=0.03)


@pytest.mark.parametrize("limit", [{"keep": 0.5}, {"max_ms": 1.0}])
def test_a_dry_run_does_not_time_what_takes_long(
    net: Any, tmp_path: Path, limit: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.search.resolve.QUICK_MACS", 2208 * 16 - 1)
    target = {"kind": "latency", "runtime": "keras", "batch_size": 16, **limit}
    clock = Clock()
    resolved = search(net, target, bench(tmp_path, time_pair=clock.time_pair, quick=True))
    assert (clock.calls, resolved.trials, resolved.measured) == ([], (), False)
    assert resolved.note is not None
    assert "in the job" in resolved.note
    if "keep" in limit:
        assert resolved.value == pytest.approx(0.5, rel=0.05)
        assert engine.count(cut(net, resolved)).macs == pytest.approx(0.5 * 2208, rel=0.05)
    else:
        assert (resolved.value, resolved.prune) == (None, None)


def test_readings_are_medians_in_the_targets_unit() -> None:
    seconds = np.array([2.0, 4.0, 8.0]), np.array([1.0, 1.0, 8.0])
    share = reading(seconds, LatencyTarget(keep=0.5))
    assert (share.value, share.interval) == (0.5, (0.25, 1.0))
    assert reading(seconds, LatencyTarget(max_ms=1)).value == 1000


def test_a_real_timing_ends_with_trials_and_a_cut(net: Any, tmp_path: Path) -> None:
    """No time is asserted: whatever the machine does, the search ends and tells."""
    target = {"kind": "latency", "runtime": "litert", "batch_size": 64, "keep": 0.99}
    told: list[TrialFigure] = []
    try:
        search(net, target, bench(tmp_path, tell=told.append))
    except EngineRefusal:
        assert len(told) == 2
    assert 2 <= len(told) <= 8
