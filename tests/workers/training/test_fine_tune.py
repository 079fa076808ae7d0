"""The epoch loop: resumes exactly, keeps the best, refuses to lie."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.errors import InternalError
from app.domain.recovery import FineTune
from tests.workers.training.steps import cut_off, half_of
from workers.training.data import Data, Samples
from workers.training.fine_tune import Diverged, FineTuner, batches_per_call
from workers.training.objective import Objective, OutputObjective
from workers.training.state import JobState
from workers.training.statistics import reestimate_statistics


def samples(count: int, seed: int) -> Samples:
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, 6)).astype(np.float32)
    return Samples({"x": x}, ((x[:, :1] * 2 - x[:, 1:2]),), count)


DATA = Data(train=samples(256, 0), validation=samples(64, 1), test=samples(64, 2), notes=())
OBJECTIVE = Objective((OutputObjective("out", "mean_squared_error", False, ()),), ())


def network(normalised: bool = False) -> Any:
    keras.utils.set_random_seed(3)
    hidden = [keras.layers.Dense(16, activation="relu"), keras.layers.Dropout(0.1)]
    if normalised:
        hidden.append(keras.layers.BatchNormalization())
    return keras.Sequential([keras.Input((6,), name="x"), *hidden, keras.layers.Dense(1)])


def start() -> JobState:
    return half_of(network())


def tuner(state: JobState, on_epoch: Any = lambda figure: None, **spec: Any) -> FineTuner:
    spec = {"epochs": 6, "batch_size": 32} | spec
    return FineTuner(
        state,
        DATA,
        OBJECTIVE,
        FineTune.model_validate(spec),
        11,
        lambda epoch, share, metrics: None,
        on_epoch,
    )


def test_resuming_from_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    whole = start()
    tuner(whole).train(6, final=True)

    resumed = cut_off(start(), lambda it, tell: tuner(it, tell).train(6, final=True), 3, tmp_path)
    assert (resumed.step, resumed.epoch_in_step, resumed.epochs_done) == (1, 3, 3)
    tuner(resumed).train(6, final=True)

    assert [f.epoch for f in resumed.history] == [f.epoch for f in whole.history]
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "adam"},
        {"kind": "adam", "weight_decay": 0.1},
        {"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"kind": "rmsprop"},
    ],
)
def test_masks_hold_and_the_loss_falls(optimizer: dict[str, Any]) -> None:
    state = start()
    before = state.model.get_weights()
    tuner(state, optimizer=optimizer).train(4, final=False)
    kernels = [w for w in state.model.get_weights() if w.ndim == 2]
    assert sum(int((k == 0).sum()) for k in kernels) == round(0.5 * 96) + round(0.5 * 16)
    losses = [figure.logs["val_loss"] for figure in state.history]
    assert losses[-1] < losses[0]
    after = state.model.get_weights()
    assert not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_best_epoch_is_kept_and_training_stops_early() -> None:
    state = start()
    hot = {"kind": "sgd", "learning_rate": 0.3, "momentum": 0.0}
    tuner(state, optimizer=hot, early_stopping={"patience": 2}).train(40, final=True)
    losses = [figure.logs["val_loss"] for figure in state.history]
    OBJECTIVE.compile(state.model, "sgd")
    kept = state.model.evaluate(DATA.validation.x, DATA.validation.y, verbose=0)[0]
    assert len(losses) < 40
    assert kept <= min(losses) * (1 + 1e-4)


def test_divergence_says_what_to_change() -> None:
    mad = {"kind": "sgd", "learning_rate": 10.0}
    with pytest.raises(Diverged, match="learning_rate"):
        tuner(start(), optimizer=mad).train(20, final=False)


def test_a_mask_that_did_not_hold_is_a_defect() -> None:
    state = start()
    tuned = tuner(state)
    tuned.train(1, final=False)
    state.model.layers[0].kernel.assign(np.ones((6, 16)))
    with pytest.raises(InternalError, match="not zero"):
        tuned._check_masks()


def test_statistics_are_plain_averages_of_the_training_batches() -> None:
    model = network(normalised=True)
    layer = model.layers[-2]
    layer.moving_mean.assign(np.full(16, 100.0))
    used = reestimate_statistics(model, DATA.train, 64, seed=0)
    features = keras.Model(model.inputs[0], layer.input)(DATA.train.x)
    assert used == 4
    # Dropout is active while averaging, hence the tolerance.
    np.testing.assert_allclose(layer.moving_mean, np.mean(features, axis=0), atol=0.15)
    assert layer.momentum == 0.99
    assert reestimate_statistics(network(), DATA.train, 64, seed=0) == 0


# --- batches per call --------------------------------------------------------------------------
def test_batches_trained_together_give_what_single_ones_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for together in (1, 3, 32):
        monkeypatch.setattr("workers.training.fine_tune.MOST_BATCHES", together)
        state = start()
        # Nine batches, the last of them smaller: 3 and 32 divide neither samples nor batches.
        tuner(state, batch_size=30).train(2, final=False)
        found.append((state.model.get_weights(), [one.logs for one in state.history]))
    for weights, logs in found[1:]:
        for one, other in zip(found[0][0], weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        assert logs[-1]["loss"] == pytest.approx(found[0][1][-1]["loss"], rel=1e-5)


def test_large_networks_come_back_after_each_batch() -> None:
    assert batches_per_call(macs=300_000_000, batch_size=128, batches=400) == 1
    assert batches_per_call(macs=266_000, batch_size=128, batches=400) == 32
    assert batches_per_call(macs=266_000, batch_size=128, batches=5) == 5
    assert batches_per_call(macs=0, batch_size=1, batches=1) == 1
