"""What helps a pruned model to recover: rates, clipping, smoothing, weights, a teacher."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.domain.recovery import FineTune
from tests.workers.training.steps import cut_off, half_of
from workers import engine
from workers.training.data import Data, Samples
from workers.training.fine_tune import FineTuner
from workers.training.losses import SmoothedClassIndexes, distilled, unlike
from workers.training.objective import Objective, OutputObjective
from workers.training.optimizers import make_optimizer
from workers.training.state import JobState
from workers.training.teaching import Teacher, taught_targets, wrapped
from workers.training.weighting import balanced


def rates(spec: dict[str, Any], at: list[int]) -> list[float]:
    """The learning rate after so many updates, 4 batches an epoch, 10 epochs."""
    optimizer = make_optimizer(FineTune.model_validate(spec), batches=4, epochs=10)
    found = []
    for updates in at:
        optimizer.iterations.assign(updates)
        found.append(float(optimizer.learning_rate))
    return found


SGD = {"kind": "sgd", "learning_rate": 0.4}


def test_a_cosine_falls_from_the_rate_to_its_share() -> None:
    schedule = {"kind": "cosine", "final_share": 0.25}
    found = rates({"optimizer": SGD, "learning_rate_schedule": schedule}, [0, 20, 40, 60])
    np.testing.assert_allclose(found, [0.4, 0.25, 0.1, 0.1], rtol=1e-6)


def test_a_warm_up_counts_towards_the_epochs() -> None:
    schedule = {"kind": "cosine", "warmup_epochs": 2.0}
    found = rates({"optimizer": SGD, "learning_rate_schedule": schedule}, [0, 4, 8, 24, 40])
    np.testing.assert_allclose(found, [0.0, 0.2, 0.4, 0.2, 0.0], atol=1e-7)


def test_a_constant_rate_may_warm_up_too() -> None:
    constant = {"optimizer": SGD, "learning_rate_schedule": "constant"}
    assert rates(constant, [0, 40]) == pytest.approx([0.4, 0.4])
    schedule = {"kind": "constant", "warmup_epochs": 1.0}
    found = rates({"optimizer": SGD, "learning_rate_schedule": schedule}, [0, 1, 4, 40])
    np.testing.assert_allclose(found, [0.0, 0.1, 0.4, 0.4], rtol=1e-6)
    longer = {"kind": "constant", "warmup_epochs": 100.0}
    assert rates({"optimizer": SGD, "learning_rate_schedule": longer}, [40]) == pytest.approx([0.4])


@pytest.mark.parametrize("kind", ["sgd", "adam", "rmsprop"])
def test_gradients_are_clipped_together(kind: str) -> None:
    spec = FineTune.model_validate({"optimizer": {"kind": kind}, "clip_norm": 0.5})
    assert make_optimizer(spec, 1, 1).global_clipnorm == 0.5


def test_clipping_bounds_the_step() -> None:
    plain = {"kind": "sgd", "learning_rate": 1.0, "momentum": 0.0}
    spec = FineTune.model_validate({"optimizer": plain, "clip_norm": 0.5})
    weights = [keras.Variable(np.zeros(3)), keras.Variable(np.zeros(4))]
    optimizer = make_optimizer(spec, 1, 1)
    optimizer.apply([np.full(3, 30.0, np.float32), np.full(4, -40.0, np.float32)], weights)
    moved = np.concatenate([np.asarray(each) for each in weights])
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-5)


# --- losses ------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_smoothed_class_indexes(shape: tuple[int, ...]) -> None:
    """Labels 0 and 2 of three classes, 0.3 smoothed: 0.8 on the label, 0.1 on the others."""
    outputs = np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]], np.float32)
    labels = np.array([0, 2]).reshape(shape)
    by_hand = [
        -(0.8 * np.log(0.7) + 0.1 * np.log(0.2) + 0.1 * np.log(0.1)),
        -(0.8 * np.log(0.25) + 0.1 * np.log(0.5) + 0.1 * np.log(0.25)),
    ]
    found = SmoothedClassIndexes(0.3, from_logits=False)(labels, outputs)
    assert float(found) == pytest.approx(np.mean(by_hand), rel=1e-5)
    logits = SmoothedClassIndexes(0.3, from_logits=True)(labels, np.log(outputs))
    assert float(logits) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_smoothed_class_indexes_of_sequences() -> None:
    outputs = np.full((2, 5, 3), 1 / 3, np.float32)
    found = SmoothedClassIndexes(0.1, from_logits=False)(np.zeros((2, 5), np.int32), outputs)
    assert float(found) == pytest.approx(np.log(3), rel=1e-5)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_distillation_of_classes_by_hand(loss: Any) -> None:
    """T = 2: softmax([2, 0]/2) = [0.7311, 0.2689]; the student's log-softmax([0, 2]/2)."""
    teacher, student = np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 2.0]], np.float32)
    soft = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    log_student = np.array([0.0, 1.0]) - np.log(1 + np.e)
    by_hand = 4 * -(soft * log_student).sum()
    found = distilled(loss, True, 2.0, teacher, student)
    np.testing.assert_allclose(found, [by_hand], rtol=1e-5)

    def probabilities(logits: Any) -> Any:
        return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)

    same = distilled(loss, False, 2.0, probabilities(teacher), probabilities(student))
    np.testing.assert_allclose(same, [by_hand], rtol=1e-5)


def test_distillation_of_two_classes_and_of_values() -> None:
    teacher, student = np.array([[2.0]], np.float32), np.array([[-2.0]], np.float32)
    p = 1 / (1 + np.exp(-1))
    by_hand = 4 * -(p * np.log(1 - p) + (1 - p) * np.log(p))
    found = distilled("binary_crossentropy", True, 2.0, teacher, student)
    np.testing.assert_allclose(found, [by_hand], rtol=1e-5)
    odds = [1 / (1 + np.exp(-each)) for each in (teacher, student)]
    found = distilled("binary_crossentropy", False, 2.0, *odds)
    np.testing.assert_allclose(found, [by_hand], rtol=1e-4)
    assert np.asarray(distilled("mean_squared_error", False, 2.0, teacher, student)) == [16.0]


def test_distillation_is_computed_in_32_bits_for_each_sample() -> None:
    """Two samples of three steps; 1e-6 is below what 16 bits can divide by."""
    outputs = np.full((2, 3, 2), 1e-6, np.float16)
    outputs[..., 0] = 1.0
    found = distilled("categorical_crossentropy", False, 1.0, outputs, outputs[..., ::-1])
    assert tuple(found.shape) == (2,)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert np.isfinite(found).all()


def test_likeness_is_of_samples_whatever_the_width() -> None:
    random = np.random.default_rng(0)
    seen = random.standard_normal((8, 2, 3)).astype(np.float32)
    turned, _ = np.linalg.qr(random.standard_normal((6, 6)))
    wider = np.concatenate([seen.reshape(8, 6) @ turned, np.zeros((8, 5))], axis=1)
    assert np.asarray(unlike(seen, 3.0 * wider)) == pytest.approx(0.0, abs=1e-10)
    # Two samples that are alike, beside two that are at right angles: rows (1, 1)/√2 and (1, 0).
    alike, apart = np.array([[1.0], [1.0]]), np.eye(2)
    expected = 2 * ((1 - 0.5**0.5) ** 2 + 0.5) / 4
    assert np.asarray(unlike(alike, apart)) == pytest.approx(expected, rel=1e-6)


def test_penalties_of_weights_stay_whole() -> None:
    """A teacher that is agreed with, and nothing else: what is left is the penalty."""
    i = keras.Input((2,))
    dense = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5), name="out")
    model = keras.Model(i, dense(i))
    objective = Objective((OutputObjective("out", "mean_squared_error", False, ()),), ())
    spec = FineTune.model_validate({"distillation": {"weight": 1.0}})
    trained = wrapped(model, objective, spec, Teacher(model))
    objective.compile(trained, keras.optimizers.SGD(0.0))
    samples = Samples({"x": np.ones((4, 2), np.float32)}, (np.zeros((4, 2), np.float32),), 4)
    targets = taught_targets(samples, spec, Teacher(model))
    found = trained.train_on_batch(samples.x, targets, return_dict=True)["loss"]
    assert float(found) == pytest.approx(
        0.5 * float((np.asarray(dense.kernel) ** 2).sum()), rel=1e-4
    )
    assert trained.output_names == ["out"]


@pytest.mark.parametrize(
    "target",
    [
        np.array([0, 0, 0, 2]),
        np.array([[0], [0], [0], [2]]),
        np.array([[0.0], [0.0], [0.0], [1.0]]),
        np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_balanced_weights(target: Any) -> None:
    """Three of one class and one of another: 4/(2·3) and 4/(2·1)."""
    found = balanced(Samples({}, (target,), 4))
    np.testing.assert_allclose(found, [2 / 3, 2 / 3, 2 / 3, 2.0], rtol=1e-6)


# --- training ----------------------------------------------------------------------------------
CLASSES = Objective(
    (OutputObjective("out", "sparse_categorical_crossentropy", False, ("accuracy",)),), ()
)


def classifier() -> Any:
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((6,), name="x"),
            keras.layers.Dense(24, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def labelled(count: int, seed: int, wrong: bool = False) -> Samples:
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, 6)).astype(np.float32)
    labels = x[:, :3].argmax(axis=1).astype(np.int32)
    return Samples({"x": x}, (random.permutation(labels) if wrong else labels,), count)


def tuner(
    state: JobState, data: Data, teacher: Any = None, on_epoch: Any = None, **spec: Any
) -> FineTuner:
    asked = FineTune.model_validate({"epochs": 6, "batch_size": 32} | spec)
    tell = on_epoch or (lambda figure: None)
    return FineTuner(state, data, CLASSES, asked, 7, lambda *_: None, tell, teacher)


@pytest.fixture(scope="module")
def taught() -> tuple[Any, Data]:
    """A trained original, and data whose training labels are wrong: only a teacher can help."""
    right, held = labelled(512, 0), labelled(256, 1)
    model = classifier()
    CLASSES.compile(model, keras.optimizers.Adam(0.02))
    model.fit(right.x, right.y, batch_size=32, epochs=12, verbose=0)
    return model, Data(train=labelled(512, 0, wrong=True), validation=held, test=held)


def accuracy(model: Any, samples: Samples) -> float:
    predicted = np.asarray(model(samples.x)).argmax(axis=1)
    return float((predicted == samples.targets[0]).mean())


def test_a_teacher_alone_teaches_what_the_labels_do_not(taught: tuple[Any, Data]) -> None:
    original, data = taught
    state = half_of(original)
    teacher = Teacher(original)
    adam = {"kind": "adam", "learning_rate": 0.01}
    spec = {"optimizer": adam, "distillation": {"weight": 1.0}}
    tuner(state, data, teacher, **spec).train(6, final=False)
    assert accuracy(state.model, data.validation) > 0.9
    for key, variable in engine.graph.variable_keys(state.model).items():
        if key in state.masks:
            assert not np.any(np.asarray(variable)[~state.masks[key]])
    untaught = half_of(original)
    tuner(untaught, data, optimizer=adam).train(6, final=False)
    assert accuracy(untaught.model, data.validation) < 0.7


def test_hidden_layers_learn_to_see_as_the_teacher_does(taught: tuple[Any, Data]) -> None:
    original, data = taught
    views = {}
    for features in (0.0, 1e5):
        state = half_of(keras.models.clone_model(original))  # Untrained.
        spec = {"distillation": {"features": features}, "optimizer": FAST}
        tuner(state, data, Teacher(original), **spec).train(6, final=False)
        first = [
            keras.Model(one.inputs[0], one.layers[0].output) for one in (original, state.model)
        ]
        views[features] = float(unlike(*(one(data.validation.x[:128]) for one in first)))
    assert views[1e5] < 0.5 * views[0.0]


FAST = {"kind": "adam", "learning_rate": 0.01}


@pytest.mark.parametrize("teacher", [False, True])
def test_mixed_precision_trains_and_is_gone_afterwards(
    taught: tuple[Any, Data], teacher: bool
) -> None:
    original, data = taught
    found = {}
    for asked in (False, True):
        state = half_of(original)

        def told(_: Any, model: Any = state.model) -> None:
            # What a checkpoint would hold.
            assert {one.dtype_policy.name for one in model.layers} == {"float32"}

        teachers = Teacher(original) if teacher else None
        tuner(state, data, teachers, told, mixed_precision=asked).train(2, final=False)
        found[asked] = state
        assert all(variable.dtype == "float32" for variable in state.model.weights)
    weights = [state.model.get_weights() for state in found.values()]
    # Nearly the same, and not the same: 8 bits of mantissa.
    assert any(not np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)
    losses = [state.history[-1].logs["loss"] for state in found.values()]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_validation_listens_to_targets_alone(taught: tuple[Any, Data]) -> None:
    original, data = taught
    state = half_of(original)
    tuned = tuner(state, data, Teacher(original), distillation={"weight": 0.9})
    tuned.train(1, final=False)
    CLASSES.compile(state.model, "sgd")
    alone = state.model.evaluate(data.validation.x, data.validation.y, verbose=0)[0]
    assert state.history[-1].logs["val_loss"] == pytest.approx(alone, rel=1e-5)


def test_a_taught_job_goes_on_exactly_where_it_was(
    taught: tuple[Any, Data], tmp_path: Path
) -> None:
    original, data = taught
    teacher = Teacher(original)
    spec: dict[str, Any] = {
        "distillation": {"temperature": 2.0, "features": 10.0},
        "learning_rate_schedule": {"kind": "cosine", "warmup_epochs": 1},
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "clip_norm": 1.0,
    }
    whole = half_of(original)
    tuner(whole, data, teacher, **spec).train(4, final=True)

    def train(state: JobState, tell: Any) -> None:
        tuner(state, data, teacher, tell, **spec).train(4, final=True)

    resumed = cut_off(half_of(original), train, 2, tmp_path)
    tuner(resumed, data, teacher, **spec).train(4, final=True)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_epochs_measure_batch_normalisation_anew(taught: tuple[Any, Data]) -> None:
    original, data = taught
    state = half_of(original)
    before = {key: np.array(v) for key, v in engine.graph.variable_keys(state.model).items()}
    tuner(state, data, epochs=0).train(0, final=True)
    changed = {
        key.rpartition("/")[2]
        for key, variable in engine.graph.variable_keys(state.model).items()
        if not np.array_equal(before[key], np.asarray(variable))
    }
    assert changed == {"moving_mean", "moving_variance"}
    assert state.history == []


# --- augmentation ------------------------------------------------------------------------------
def pictures(count: int, seed: int) -> Samples:
    """Dark on the left (0) or on the right (1) of the upper half: mirrored, the label is wrong."""
    random = np.random.default_rng(seed)
    x = random.uniform(0.0, 0.2, (count, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 2, count).astype(np.int32)
    for image, label in zip(x, labels, strict=True):
        image[:4, label * 4 : label * 4 + 4] += 1.0
    return Samples({"x": x}, (labels,), count)


def looker() -> Any:
    keras.utils.set_random_seed(5)
    i = keras.Input((8, 8, 1), name="x")
    x = keras.layers.Conv2D(8, 3, activation="relu")(i)
    x = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(x))
    return keras.Model(i, x)


def after_training(**spec: Any) -> float:
    data = Data(train=pictures(256, 0), validation=pictures(128, 1), test=pictures(128, 2))
    state = half_of(looker())
    tuner(state, data, **spec).train(8, final=False)
    return accuracy(state.model, data.validation)


def test_images_are_mirrored_in_training_alone() -> None:
    """Mirroring makes this label a coin's toss in training; without it there is nothing to it."""
    adam = {"kind": "adam", "learning_rate": 0.01}
    assert after_training(optimizer=adam) > 0.95
    assert after_training(optimizer=adam, augmentation={"flip": True}) < 0.8


def test_shifts_change_the_images_and_resume_exactly(tmp_path: Path) -> None:
    data = Data(train=pictures(128, 0), validation=pictures(64, 1), test=pictures(64, 2))
    original = looker()
    spec: dict[str, Any] = {"augmentation": {"shift": 0.25}, "distillation": {}}
    whole = half_of(original)
    tuner(whole, data, Teacher(original), **spec).train(3, final=True)

    def train(state: JobState, tell: Any) -> None:
        tuner(state, data, Teacher(original), tell, **spec).train(3, final=True)

    resumed = cut_off(half_of(original), train, 1, tmp_path)
    tuner(resumed, data, Teacher(original), **spec).train(3, final=True)
    plain = half_of(original)
    tuner(plain, data, Teacher(original), distillation={}).train(3, final=True)
    same = zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True)
    for a, b in same:
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(plain.model.get_weights()[0], whole.model.get_weights()[0])
