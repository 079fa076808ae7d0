"""Evidence from training data: gradients by hand, nothing moved, and choices made by it."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.criteria import TaylorCriterion
from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from workers import engine
from workers.engine import graph
from workers.training.data import Data, Samples
from workers.training.evidence import collect, drawn, gradients
from workers.training.objective import Objective, OutputObjective

RANDOM = np.random.default_rng(4)
REGRESSION = Objective((OutputObjective("out", "mean_squared_error", False, ()),), ())
X = RANDOM.standard_normal((32, 3)).astype(np.float32)
Y = RANDOM.standard_normal((32, 2)).astype(np.float32)
SAMPLES = Samples({"x": X}, (Y,), 32)
DATA = Data(train=SAMPLES, validation=SAMPLES, test=SAMPLES)


def linear(**settings: Any) -> Any:
    keras.utils.set_random_seed(1)
    layer = layers.Dense(2, use_bias=False, name="only", **settings)
    return keras.Sequential([keras.Input((3,)), layer])


def by_hand(kernel: Any) -> list[Any]:
    """Gradients of the mean squared error of x·w, one per batch of 16: 2/(16·2) xᵀ(xw - y)."""
    batches = ((X[:16], Y[:16]), (X[16:], Y[16:]))
    return [2 / 32 * x.T @ (x @ kernel - y) for x, y in batches]


def kernel_of(model: Any) -> Any:
    return np.array(model.get_weights()[0])


def test_taylor_is_the_mean_over_batches() -> None:
    model = linear()
    w = kernel_of(model)
    expected = np.mean([np.abs(w * g) for g in by_hand(w)], axis=0)
    found = gradients(model, SAMPLES, REGRESSION, squared=False)
    np.testing.assert_allclose(found["only/0/kernel"], expected, rtol=1e-4)


def test_squares_are_averaged_after_squaring() -> None:
    model = linear()
    expected = np.mean([np.square(g) for g in by_hand(kernel_of(model))], axis=0)
    found = gradients(model, SAMPLES, REGRESSION, squared=True)
    np.testing.assert_allclose(found["only/0/kernel"], expected, rtol=1e-4)


def test_frozen_layers_count_and_penalties_do_not() -> None:
    plain = gradients(linear(), SAMPLES, REGRESSION, squared=True)
    model = linear(kernel_regularizer=keras.regularizers.L2(10.0), trainable=False)
    np.testing.assert_allclose(
        gradients(model, SAMPLES, REGRESSION, squared=True)["only/0/kernel"],
        plain["only/0/kernel"],
        rtol=1e-5,
    )
    assert not model.get_layer("only").trainable
    assert model.trainable_variables == []


def restless() -> Any:
    """A model with everything that moves when it trains."""
    keras.utils.set_random_seed(2)
    i = keras.Input((3,), name="x")
    x = layers.Dense(6, activation="relu", kernel_constraint=keras.constraints.MaxNorm(0.1))(i)
    x = layers.Dropout(0.5)(layers.BatchNormalization()(x))
    x = layers.GaussianNoise(1.0)(layers.Dense(5, trainable=False)(x))
    return keras.Model(i, layers.Dense(2)(x))


@pytest.mark.parametrize("kind", ["taylor", "fisher", "wanda", "apoz", "activation"])
def test_nothing_of_the_model_moves(kind: str) -> None:
    model = restless()
    model.compile("adam", "mean_squared_error")
    model.fit(X, Y, verbose=0)
    optimizer = model.optimizer
    state = [*model.variables, *optimizer.variables]
    before = [graph.values(variable).copy() for variable in state]
    flags = [layer.trainable for layer in model._flatten_layers()]
    criterion = prune(kind, granularity="channel").criterion
    first = collect(model, DATA, REGRESSION, criterion, seed=0)
    assert model.optimizer is optimizer
    for old, variable in zip(before, state, strict=True):
        assert np.array_equal(old, graph.values(variable))
    assert flags == [layer.trainable for layer in model._flatten_layers()]
    # Without dropout and noise there is no chance in it.
    again = collect(model, DATA, REGRESSION, criterion, seed=0)
    for name in ("taylor", "squared_gradient", "input_norm", "activity", "zeros"):
        one, other = getattr(first, name), getattr(again, name)
        assert one.keys() == other.keys()
        assert all(np.allclose(one[key], other[key], rtol=1e-5) for key in one)


def prune(kind: str, granularity: str = "weight", **more: Any) -> Prune:
    target = {"kind": "fraction", "remove": 0.5}
    return Prune.model_validate(
        {"granularity": granularity, "criterion": kind, "target": target} | more
    )


def test_only_what_is_needed_is_collected() -> None:
    needed = {
        "magnitude": (),
        "taylor": ("taylor",),
        "fisher": ("squared_gradient",),
        "wanda": ("input_norm",),
        "activation": ("activity", "zeros"),
    }
    model = restless()
    for kind, fields in needed.items():
        criterion = prune(kind, granularity="channel").criterion
        found = collect(model, DATA, REGRESSION, criterion, seed=0)
        assert tuple(name for name, value in vars(found).items() if value) == fields


def test_several_inputs_and_outputs_by_name() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    x = layers.Concatenate()([layers.Dense(4, name="left")(a), layers.Dense(4, name="right")(b)])
    outputs = {"y": layers.Dense(2, name="y")(x), "z": layers.Dense(1, name="z")(x)}
    model = keras.Model({"b": b, "a": a}, outputs)
    inputs = {one.name: {"a": X, "b": Y}[one.name] for one in model.inputs}
    targets = tuple({2: Y, 1: Y[:, :1]}[one.shape[-1]] for one in model.outputs)
    both = Objective(REGRESSION.outputs * 2, ())
    found = gradients(model, Samples(inputs, targets, 32), both, squared=False)
    assert set(found) == set(graph.kernels(model))
    assert all(values.any() for values in found.values())


def test_embeddings_have_gradients_too() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Embedding(4, 2), layers.Flatten()])
    model.add(layers.Dense(2))
    rows = np.array([[0, 0, 1]] * 32)
    found = gradients(model, Samples({"x": rows}, (Y,), 32), REGRESSION, squared=True)
    seen = found[next(iter(found))].any(axis=1)
    assert seen.tolist() == [True, True, False, False]


def test_samples_are_drawn_by_the_seed() -> None:
    first, again, other = (drawn(SAMPLES, 10, seed) for seed in (1, 1, 2))
    assert first.count == 10
    assert np.array_equal(first.inputs["x"], again.inputs["x"])
    assert not np.array_equal(first.inputs["x"], other.inputs["x"])
    pairs = {tuple(x): tuple(y) for x, y in zip(X, Y, strict=True)}
    for x, y in zip(first.inputs["x"], first.targets[0], strict=True):
        assert pairs[tuple(x)] == tuple(y)
    assert drawn(SAMPLES, 99, 0) is SAMPLES


def test_a_glance_looks_at_fewer() -> None:
    model = linear()
    found = collect(model, DATA, REGRESSION, TaylorCriterion(), seed=3, at_most=8)
    few = gradients(model, drawn(SAMPLES, 8, 3), REGRESSION, squared=False)
    np.testing.assert_allclose(found.taylor["only/0/kernel"], few["only/0/kernel"], rtol=1e-5)


def test_gradients_that_are_not_finite_are_refused() -> None:
    mad = Samples({"x": X * np.float32(1e30)}, (Y,), 32)
    with pytest.raises(EngineRefusal, match=r"only/0/kernel on data is not finite"):
        gradients(linear(), mad, REGRESSION, squared=True)


def test_apoz_of_a_model_that_is_never_silent_is_refused() -> None:
    criterion = prune("apoz", granularity="channel").criterion
    with pytest.raises(EngineRefusal, match=r"32 samples this model had none. Use .*activation"):
        collect(linear(), DATA, REGRESSION, criterion, seed=0)


# --- choices -----------------------------------------------------------------------------------
SALIENCY: dict[str, Any] = {
    "taylor": lambda evidence, key, w: evidence.taylor[key],
    "fisher": lambda evidence, key, w: w**2 * evidence.squared_gradient[key],
    "wanda": lambda evidence, key, w: w * evidence.input_norm[key],
}


@pytest.mark.parametrize("kind", SALIENCY)
def test_weights_go_by_what_was_seen(kind: str) -> None:
    model = restless()
    evidence = collect(model, DATA, REGRESSION, prune(kind).criterion, seed=0)
    saliency = {
        key: SALIENCY[kind](evidence, key, np.abs(graph.values(variable)))
        for key, variable in graph.kernels(model).items()
    }
    for scope, groups in (("layer", [[key] for key in saliency]), ("global", [list(saliency)])):
        cut = engine.choose(model, prune(kind, scope=scope), evidence=evidence)
        assert isinstance(cut, engine.WeightCut)
        for keys in groups:
            seen = np.concatenate([saliency[key].ravel() for key in keys])
            stays = np.concatenate([cut.masks[key].ravel() for key in keys])
            assert (~stays).sum() == round(0.5 * seen.size)
            assert seen[~stays].max() <= seen[stays].min() * (1 + 1e-6)
        assert engine.prove(model, engine.apply(model, cut), cut).holds


@pytest.mark.parametrize("kind", SALIENCY)
def test_large_weights_of_a_silent_input_go_first(kind: str) -> None:
    model = linear()
    model.set_weights([np.array([[9, 9], [1, 2], [3, 4]], np.float32)])
    silent = Samples({"x": X * np.array([0, 1, 1], np.float32)}, (Y,), 32)
    data = Data(train=silent, validation=silent, test=silent)
    spec = prune(kind, target={"kind": "fraction", "remove": 0.34})
    evidence = collect(model, data, REGRESSION, spec.criterion, seed=0)
    cut = engine.choose(model, spec, evidence=evidence)
    assert isinstance(cut, engine.WeightCut)
    assert cut.masks["only/0/kernel"].tolist() == [[False] * 2, [True] * 2, [True] * 2]


def test_without_evidence_there_is_no_choice() -> None:
    with pytest.raises(EngineRefusal, match=r"taylor looks at data.*give a data set"):
        engine.choose(linear(), prune("taylor"))
