"""Two Keras models timed against each other."""

import keras
import pytest

from app.domain.prune import Runtime
from workers.measure.latency import cores
from workers.measure.pair import time_models


@pytest.mark.parametrize(
    ("runtime", "threads"), [("keras", cores()), ("litert", 1), ("onnxruntime", 1)]
)
def test_a_tenth_of_the_work_is_faster(runtime: Runtime, threads: int) -> None:
    def wide(units: int) -> keras.Model:
        dense = [keras.layers.Dense(units) for _ in range(3)]
        return keras.Sequential([keras.Input((64,)), *dense, keras.layers.Dense(2)])

    before, after = time_models(wide(1024), wide(32), runtime, batch_size=16, repeats=9)
    assert before.runtime == after.runtime == runtime
    assert before.threads == after.threads == threads
    assert before.batch_size == after.batch_size == 16
    assert before.repeats == after.repeats == 9
    assert before.speed_up is None
    assert after.speed_up is not None
    assert after.speed_up > 1.5
    assert after.p50_ms < before.p50_ms
