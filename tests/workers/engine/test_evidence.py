"""What is observed, against the plain calculation: input norms, activations, scales."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import EngineRefusal
from tests.workers.engine.zoo import ZOO, randomise
from workers.engine import graph, observe
from workers.engine.evidence import Evidence, scales

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def answers(model: Any, tensor: Any, x: Any) -> Any:
    return keras.Model(model.inputs, tensor).predict(x, verbose=0)


# --- input norms -------------------------------------------------------------------------------
# Removing one weight changes a linear layer's output by w · x: the squares of the change, summed
# over positions and averaged over samples, are w² · norm² for whatever layer, axis and group.
LINEAR = {
    "dense": (lambda: layers.Dense(3), (4,), "kernel"),
    "dense on positions": (lambda: layers.Dense(3), (5, 4), "kernel"),
    "convolution": (lambda: layers.Conv2D(3, 1), (5, 4, 2), "kernel"),
    "strided": (lambda: layers.Conv1D(3, 1, strides=1), (5, 2), "kernel"),
    "groups": (lambda: layers.Conv2D(6, 1, groups=2), (3, 3, 4), "kernel"),
    "transposed": (lambda: layers.Conv2DTranspose(3, 1), (4, 4, 2), "kernel"),
    "depthwise": (lambda: layers.DepthwiseConv2D(1, depth_multiplier=2), (4, 4, 3), "kernel"),
    "separable": (
        lambda: layers.SeparableConv2D(3, 2, depth_multiplier=2, padding="same"),
        (4, 4, 2),
        "pointwise_kernel",
    ),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), "kernel"),
    "einsum with dots": (
        lambda: layers.EinsumDense("...hk,khm->...m", 3),
        (5, 2, 4),
        "kernel",
    ),
    "step by step": (lambda: layers.TimeDistributed(layers.Dense(3)), (5, 4), "kernel"),
    "nested": (
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3)]),
        (4,),
        "kernel",
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_the_norm_tells_what_a_weight_contributes(name: str) -> None:
    make, shape, kernel = LINEAR[name]
    model = randomise(keras.Sequential([keras.Input(shape), make()]))
    x = normal(6, *shape)
    evidence = observe(model, [[x[:4]], [x[4:]]])
    key = next(key for key, v in graph.kernels(model).items() if v.name == kernel)
    variable = graph.kernels(model)[key]
    values = graph.values(variable).copy()
    before = model.predict(x, verbose=0)
    norm = evidence.of(key, values.shape).input_norm
    assert norm is not None
    for flat in RANDOM.integers(0, values.size, 4):
        place = np.unravel_index(flat, values.shape)
        without = values.copy()
        without[place] = 0.0
        variable.assign(without)
        change = np.square(model.predict(x, verbose=0) - before).sum() / len(x)
        np.testing.assert_allclose(change, (values[place] * norm[place]) ** 2, rtol=1e-3)
    variable.assign(values)


def test_an_embedding_reads_counts() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Embedding(4, 2)])
    rows = np.array([[0, 0, 1], [3, 0, 1]])
    (norm,) = observe(model, [[rows]]).input_norm.values()
    np.testing.assert_allclose(norm, np.sqrt(np.array([[3], [2], [0], [1]]) / 2))


@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.LSTM, layers.GRU])
def test_recurrent_kernels_read_inputs_and_earlier_states(kind: Any) -> None:
    model = randomise(keras.Sequential([keras.Input((5, 3)), kind(4)]))
    x = normal(6, 5, 3)
    layer = model.layers[0]
    found = observe(model, [[x]]).input_norm
    states = keras.layers.deserialize(keras.layers.serialize(layer))
    states.return_sequences = True
    states.build((None, 5, 3))
    states.set_weights(layer.get_weights())
    before = np.asarray(states(x))[:, :-1]
    for key, read in ((f"{layer.name}/0/kernel", x), (f"{layer.name}/1/recurrent_kernel", before)):
        expected = np.sqrt(np.square(read).sum(axis=(0, 1)) / len(x))
        np.testing.assert_allclose(found[key][:, 0], expected, rtol=1e-4)
    assert layer.return_sequences is False


def test_attention_is_seen_inside() -> None:
    i = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3)
    model = randomise(keras.Model(i, attention(i, i)))
    found = observe(model, [[normal(6, 5, 4)]]).input_norm
    kernels = graph.kernels(model)
    assert set(found) == set(kernels)
    shapes = [found[key].shape for key in kernels]
    assert shapes == [(4, 1, 1), (4, 1, 1), (4, 1, 1), (2, 3, 1)]


def test_each_call_of_a_shared_layer_adds_up() -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    shared = layers.Dense(2, name="shared")
    model = keras.Model({"b": b, "a": a}, layers.Add()([shared(a), shared(b)]))
    x, y = normal(4, 3), normal(4, 3)
    found = observe(model, [[x, y]])
    expected = np.sqrt((np.square(x) + np.square(y)).mean(axis=0))
    np.testing.assert_allclose(found.input_norm["shared/0/kernel"][:, 0], expected, rtol=1e-5)
    both = np.abs(np.concatenate([shared(x), shared(y)])).mean(axis=0)
    np.testing.assert_allclose(found.activity["shared"], both, rtol=1e-5)


@pytest.mark.parametrize("name", ["siamese", "text", "depthwise", "two_in_two_out"])
def test_every_kernel_is_seen(name: str) -> None:
    model = randomise(ZOO[name]())
    whole = name == "text"
    shapes = [tuple(t.shape[1:]) for t in model.inputs]
    inputs = [RANDOM.integers(0, 11, (4, *s)) if whole else normal(4, *s) for s in shapes]
    found = observe(model, [inputs])
    for key, variable in graph.kernels(model).items():
        assert found.of(key, tuple(variable.shape)).input_norm is not None


# --- activations -------------------------------------------------------------------------------
def test_activations_are_those_behind_what_follows() -> None:
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 3, name="normed")(i)
    x = behind = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(5, 1, name="branched")(x)
    x = layers.Add()([y, layers.Activation("sigmoid")(y)])
    z = keras.activations.relu(layers.Conv2D(4, 1, name="operated")(x))
    own = layers.Dense(3, activation="relu", name="own")(layers.GlobalMaxPooling2D()(z))
    x = layers.Dense(3, name="linear")(layers.BatchNormalization()(own))
    end = layers.BatchNormalization()(x)
    model = randomise(keras.Model(i, end))
    data = normal(7, 6, 6, 2)
    found = observe(model, [[data[:3]], [data[3:]]])
    places = {"normed": behind, "branched": y, "operated": z, "own": own, "linear": end}
    assert found.activity.keys() == found.zeros.keys() == places.keys()
    for name, tensor in places.items():
        seen = answers(model, tensor, data).reshape(-1, tensor.shape[-1])
        np.testing.assert_allclose(found.activity[name], np.abs(seen).mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.zeros[name], (seen == 0).mean(axis=0), rtol=1e-6)
    assert found.zeros["normed"].any()
    assert not found.zeros["branched"].any()


def test_one_activation_layer_for_all_is_told_apart() -> None:
    relu = layers.ReLU()
    i = keras.Input((4,))
    first = relu(layers.Dense(5, name="first")(i))
    second = relu(layers.Dense(5, name="second")(first))
    model = randomise(keras.Model(i, second))
    x = normal(8, 4)
    found = observe(model, [[x]], norms=False)
    for name, tensor in (("first", first), ("second", second)):
        seen = answers(model, tensor, x)
        np.testing.assert_allclose(found.activity[name], seen.mean(axis=0), rtol=1e-5)
    assert not found.input_norm


def test_inner_models_are_seen() -> None:
    deep = [keras.Input((4,)), layers.Dense(3, name="deep"), layers.ReLU()]
    inner = keras.Sequential(deep, name="inner")
    i = keras.Input((4,))
    middle = inner(i)
    model = randomise(keras.Model(i, layers.Dense(2)(middle)))
    x = normal(8, 4)
    found = observe(model, [[x]])
    expected = answers(model, middle, x).mean(axis=0)
    np.testing.assert_allclose(found.activity["inner/deep"], expected, rtol=1e-5)


# --- the rest ----------------------------------------------------------------------------------
def test_scales_are_those_of_the_normalisation_right_behind() -> None:
    i = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(3, 1, name="normed")(i))
    x = layers.Conv2D(3, 1, name="bare")(layers.ReLU()(x))
    x = layers.BatchNormalization(scale=False)(layers.Conv2D(3, 1, name="unscaled")(x))
    model = randomise(keras.Model(i, x))
    found = scales(model)
    assert list(found) == ["normed"]
    assert found["normed"].tolist() == model.get_layer("bn").get_weights()[0].tolist()


def test_the_model_is_as_it_was() -> None:
    model = randomise(ZOO["not_understood"]())
    before = [graph.values(variable).copy() for variable in model.variables]
    observe(model, [[normal(3, 6, 6, 4)]])
    for old, new in zip(before, model.variables, strict=True):
        assert np.array_equal(old, graph.values(new))
    taps = {"call", "_run_through_graph"}
    assert not any(taps & vars(one).keys() for one in model._flatten_layers())


def test_what_is_not_finite_is_refused() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="only")])
    with pytest.raises(EngineRefusal, match=r"only.* is not finite.*scaled"):
        observe(model, [[np.array([[np.inf, 0.0]])]])


def test_no_samples_are_refused() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    with pytest.raises(EngineRefusal, match="no samples"):
        observe(model, [])


def test_evidence_of_another_model_is_refused() -> None:
    evidence = Evidence(taylor={"dense/0/kernel": np.zeros((3, 2))})
    with pytest.raises(EngineRefusal, match="does not fit"):
        evidence.of("dense/0/kernel", (3, 4))
