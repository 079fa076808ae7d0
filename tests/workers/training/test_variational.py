"""Noise that is learned: what it costs, what it finds, and that it leaves nothing behind."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.criteria import VariationalDropoutCriterion
from app.domain.metrics import EpochFigure
from app.domain.prune import Prune
from app.domain.recovery import FineTune
from tests.workers.training.steps import cut_off
from workers import engine
from workers.engine.graph import variable_keys
from workers.training.data import Data, Samples
from workers.training.fine_tune import FineTuner
from workers.training.objective import Objective, OutputObjective
from workers.training.state import JobState
from workers.training.teaching import Teacher
from workers.training.variational import (
    INITIAL,
    Noisy,
    divergences,
    evidence,
    log_rate,
    loss_scale,
    price,
    speed,
)

LEARNING = VariationalDropoutCriterion(epochs=6, warmup_epochs=2)


def samples(count: int, seed: int) -> Samples:
    """The class is the larger of the first two of six numbers."""
    x = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    return Samples({"x": x}, (x[:, :2].argmax(axis=1).astype(np.int32),), count)


DATA = Data(train=samples(512, 0), validation=samples(64, 1), test=samples(64, 2), notes=())
CLASSES = Objective((OutputObjective("out", "sparse_categorical_crossentropy", False, ()),), ())


def linear() -> Any:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((6,), name="x"), keras.layers.Dense(2, activation="softmax", name="dense")]
    )


def unsettled() -> Any:
    """Everything that a training step moves besides weights."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Dense(8, name="first"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
    ]
    out = keras.layers.Dense(2, activation="softmax", name="last")
    return keras.Sequential([keras.Input((6,), name="x"), *layers, out])


def begun(model: Any) -> JobState:
    prune = Prune.model_validate(
        {"granularity": "weight", "target": {"kind": "fraction", "remove": 0.5}}
    )
    return JobState(model=model, progress=engine.begin(model, prune))


def tuner(
    state: JobState,
    tell: Any = lambda figure: None,
    teacher: Teacher | None = None,
    learning: VariationalDropoutCriterion = LEARNING,
    **spec: Any,
) -> FineTuner:
    body = FineTune.model_validate({"epochs": 6, "batch_size": 32} | spec)
    return FineTuner(state, DATA, CLASSES, body, 11, lambda *_: None, tell, teacher, learning)


# --- formulas ----------------------------------------------------------------------------------
def test_the_divergence_is_that_of_the_prior() -> None:
    """KL = const - ½ log α + E log|1 + √α·ε|, by drawing; the constant falls out of differences."""
    drawn = np.random.default_rng(0).standard_normal(2_000_000)

    def exact(rate: float) -> float:
        return float(-0.5 * rate + np.log(np.abs(1 + np.exp(0.5 * rate) * drawn)).mean())

    rates = [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0]
    found = np.asarray(divergences(np.array(rates, np.float32)))
    for rate, value in zip(rates, found, strict=True):
        assert value - found[-1] == pytest.approx(exact(rate) - exact(rates[-1]), abs=0.02)
    assert (np.diff(found) < 0).all()
    assert float(np.asarray(divergences(np.float32(20.0)))) == pytest.approx(0.0, abs=1e-6)


def test_the_rate_is_noise_over_weight_within_limits() -> None:
    weights = np.array([0.5, -0.5, 0.0, 100.0], np.float32)
    found = np.asarray(log_rate(weights, np.float32(-2.0)))
    assert found[:2] == pytest.approx([-2.0 - np.log(0.25)] * 2, abs=1e-5)
    assert found[2:].tolist() == [8.0, -8.0]


def test_the_price_rises_to_its_own() -> None:
    asked = VariationalDropoutCriterion(price=3.0, warmup_epochs=4)
    assert [price(asked, epochs) for epochs in (0, 1, 4, 9)] == [0.0, 0.75, 3.0, 3.0]
    assert price(VariationalDropoutCriterion(warmup_epochs=0), 0) == 1.0


def test_few_updates_take_longer_steps() -> None:
    assert speed(1e-3, 25_000) == 1.0
    assert speed(1e-3, 1_000_000) == 1.0
    assert speed(1e-3, 250) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("loss", "nats"), [("mean_squared_error", 2.0), ("mean_absolute_error", 1.0)]
)
def test_errors_become_likelihoods_by_what_is_left_unexplained(loss: Any, nats: float) -> None:
    objective = Objective((OutputObjective("out", loss, False, ()),), ())
    x = np.ones((8, 6), np.float32)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    halves = Samples({"x": x}, (np.full((8, 1), 0.5, np.float32),), 8)
    left = {"mean_squared_error": 0.25, "mean_absolute_error": 0.5}[loss]
    assert loss_scale(model, objective, halves, 0) == pytest.approx(nats * left)
    assert loss_scale(linear(), CLASSES, DATA.train, 0) == 1.0


# --- the noisy model ---------------------------------------------------------------------------
def test_there_is_noise_in_training_alone() -> None:
    model = unsettled()
    noisy = Noisy(model, 512, 1.0)
    noisy.restore({key: np.full(one.shape, 0.0, np.float32) for key, one in noisy.kernels.items()})
    x = DATA.train.x[:4]
    np.testing.assert_array_equal(noisy(x, training=False), model(x, training=False))
    first, second = (np.asarray(noisy(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_statistics_and_random_states_move_and_weights_do_not() -> None:
    model = unsettled()
    noisy = Noisy(model, 512, 1.0)
    kernels = {key: np.array(one) for key, one in noisy.kernels.items()}
    before = [np.array(one) for one in model.non_trainable_variables]
    noisy(DATA.train.x[:64], training=True)
    after = [np.array(one) for one in model.non_trainable_variables]
    assert len(before) == 3  # Mean, variance, the state of the dropout's random numbers.
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    for key, one in noisy.kernels.items():
        np.testing.assert_array_equal(kernels[key], one)


def test_the_noise_of_dense_layers_is_that_of_their_weights() -> None:
    """Per sample: of variance Σ x²σ² around the exact output, and none of it shared."""
    model = keras.Sequential([keras.Input((6,), name="x"), keras.layers.Dense(4, name="dense")])
    noisy = Noisy(model, 512, 1.0)
    variances = np.random.default_rng(0).uniform(0.01, 1.0, (6, 4))
    (key,) = noisy.kernels
    noisy.restore({key: np.log(variances)})
    weights = np.full((6, 4), 0.5, np.float32)
    model.set_weights([weights, np.ones(4, np.float32)])
    x = np.tile(np.arange(1.0, 7.0, dtype=np.float32), (40_000, 1))
    drawn = np.asarray(noisy(x, training=True))
    np.testing.assert_allclose(drawn.mean(axis=0), x[0] @ weights + 1.0, rtol=0.02)
    np.testing.assert_allclose(drawn.var(axis=0), x[0] ** 2 @ variances, rtol=0.05)


def test_noise_is_drawn_anew_for_every_batch() -> None:
    """Where no other layer draws numbers, too."""
    model = keras.Sequential([keras.Input((6,), name="x"), keras.layers.Dense(4, name="dense")])
    noisy = Noisy(model, 512, 1.0)
    noisy.restore({key: np.zeros(one.shape) for key, one in noisy.kernels.items()})
    x = np.ones((3, 6), np.float32)
    first, second = (np.asarray(noisy(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_other_kernels_are_noisy_too() -> None:
    inner = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3)])
    steps = keras.layers.TimeDistributed(keras.layers.Dense(2))
    model = keras.Sequential([keras.Input((6, 6, 1)), inner, keras.layers.Reshape((4, 8)), steps])
    noisy = Noisy(model, 512, 1.0)
    x = np.ones((2, 6, 6, 1), np.float32)
    exact = np.asarray(model(x))
    for key in noisy.kernels:
        known = {each: np.full(one.shape, -30.0) for each, one in noisy.kernels.items()}
        noisy.restore(known | {key: np.full(noisy.kernels[key].shape, -1.0)})
        drawn = np.asarray(noisy(x, training=True))
        assert np.abs(drawn - exact).max() > 1e-2, key
        # Once per batch: both samples are alike, and so are their outputs.
        np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-4, atol=1e-4)


def test_what_is_restored_is_what_was_learned() -> None:
    noisy = Noisy(linear(), 512, 1.0, speed=7.0)
    assert {float(one.mean()) for one in noisy.log_variances.values()} == {INITIAL}
    known = {"dense/kernel": np.linspace(-9, 1, 12).reshape(6, 2).astype(np.float32)}
    known = dict.fromkeys(noisy.log_variances, known["dense/kernel"])
    noisy.restore(known)
    for key, one in noisy.log_variances.items():
        np.testing.assert_allclose(one, known[key], rtol=1e-5)


# --- learning ----------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", [{}, {"distillation": {}}], ids=str)
def test_inputs_that_say_nothing_drown(spec: dict[str, Any]) -> None:
    state = begun(knowing())
    settings = {"optimizer": {"kind": "adam", "learning_rate": 3e-3}} | spec
    longer = VariationalDropoutCriterion(epochs=20, warmup_epochs=3)
    tuner(state, teacher=Teacher(knowing()), learning=longer, **settings).train(20, final=False)
    (ratio,) = evidence(state.model, state.log_variances).signal_to_noise.values()
    # Of two classes, either's weights tell which it is.
    best = ratio.max(axis=1)
    assert best[:2].min() > 10 * best[2:].max()
    assert state.history[-1].logs["val_accuracy"] > 0.9


def knowing() -> Any:
    """Trained, but for weights that say nothing."""
    model = linear()
    kernel = np.random.default_rng(0).normal(0, 0.3, (6, 2)).astype(np.float32)
    kernel[0, 0] = kernel[1, 1] = 3.0
    model.set_weights([kernel, np.zeros(2, np.float32)])
    return model


def test_without_learning_the_squares_of_weights_decide() -> None:
    model = linear()
    (ratio,) = evidence(model, {}).signal_to_noise.values()
    np.testing.assert_allclose(ratio, np.square(model.get_weights()[0]), rtol=1e-6)


def test_an_interrupted_job_learns_the_same(tmp_path: Path) -> None:
    whole = begun(unsettled())
    tuner(whole).train(6, final=False)
    resumed = cut_off(
        begun(unsettled()), lambda it, tell: tuner(it, tell).train(6, final=False), 3, tmp_path
    )
    assert resumed.epoch_in_step == 3
    tuner(resumed).train(6, final=False)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for key, one in whole.log_variances.items():
        np.testing.assert_array_equal(one, resumed.log_variances[key])


def test_masks_hold_under_noise_and_the_end_is_without() -> None:
    state = begun(linear())
    tuner(state).train(2, final=False)
    (key,) = (key for key in variable_keys(state.model) if key.endswith("kernel"))
    mask = np.ones((6, 2), bool)
    mask[2:] = False
    state.masks = {key: mask}
    tuner(state).train(2, final=False)
    assert not np.any(np.asarray(state.model.layers[0].kernel)[2:])
    learned = dict(state.log_variances)
    tuner(state, early_stopping=None).train(2, final=True)
    assert not np.any(np.asarray(state.model.layers[0].kernel)[2:])
    for known, one in learned.items():
        np.testing.assert_array_equal(one, state.log_variances[known])


def test_the_divergence_is_in_the_loss_once_it_costs() -> None:
    figures: list[EpochFigure] = []
    tuner(begun(linear()), figures.append).train(2, final=False)
    free, priced = (figure.logs["loss"] for figure in figures)
    assert free is not None
    assert priced is not None
    assert priced > free
    assert figures[1].logs["val_loss"] is not None
    assert figures[1].logs["val_loss"] < priced
