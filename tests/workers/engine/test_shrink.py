"""Dead units go, constants go into biases, outputs stay. Golden values are worked out by hand."""

from importlib import import_module
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from app.domain.errors import InternalError
from app.domain.prune import Prune
from tests.workers.engine.zoo import ZOO, randomise
from tests.workers.engine.zoo_blocks import BLOCKS
from workers.engine import constrain, count, shrink
from workers.engine.graph import kernels, values, variable_keys
from workers.engine.patterns import holds


def stack(shape: tuple[int | None, ...], *rest: Any) -> Any:
    return randomise(keras.Sequential([keras.Input(shape), *rest]))


def set_column(layer: Any, unit: int, bias: float | None = None) -> None:
    """Zero the weights that make a unit, and set its bias."""
    kernel = np.array(layer.kernel)
    kernel[..., unit] = 0
    layer.kernel.assign(kernel)
    if bias is not None:
        layer.bias.assign(np.where(np.arange(kernel.shape[-1]) == unit, bias, layer.bias))


def set_row(layer: Any, unit: int) -> None:
    """Zero the weights that read a unit."""
    kernel = np.array(layer.kernel)
    kernel[..., unit, :] = 0
    layer.kernel.assign(kernel)


def same_outputs(one: Any, other: Any) -> bool:
    x = np.random.default_rng(5).standard_normal((6, *one.input_shape[1:])).astype(np.float32)
    return np.allclose(one(x, training=False), other(x, training=False), rtol=1e-4, atol=1e-5)


def golden(bias: float) -> Any:
    """Two inputs, three units, of which the second is relu(bias) for every input, one output."""
    model = stack((2,), layers.Dense(3, "relu", name="a"), layers.Dense(1, name="b"))
    model.set_weights(
        [
            np.array([[1, 0, 3], [4, 0, 6.0]]),
            np.array([0.5, bias, 1.5]),
            np.array([[7], [8], [9.0]]),
            np.array([10.0]),
        ]
    )
    return model


def test_a_constant_goes_into_the_bias_of_its_reader() -> None:
    small = shrink(golden(2.0))
    a, b = small.model.get_layer("a"), small.model.get_layer("b")
    assert np.array_equal(a.kernel, [[1, 3], [4, 6]])
    assert np.array_equal(a.bias, [0.5, 1.5])
    assert np.array_equal(b.kernel, [[7], [9]])
    assert np.array_equal(b.bias, [26])  # 10 + 8 * relu(2)
    assert (small.units, small.removed, small.folded) == (1, {"a": (3, 2)}, {"b/1/bias": 1})
    assert small.equality is not None
    assert small.equality.holds


def test_a_constant_of_zero_goes_without_a_trace() -> None:
    small = shrink(golden(-2.0))
    assert np.array_equal(small.model.get_layer("b").bias, [10])
    assert (small.units, small.folded) == (1, {})


def test_a_unit_that_nobody_reads_goes() -> None:
    model = stack((4,), layers.Dense(5, "tanh", name="a"), layers.Dense(2, name="b"))
    set_row(model.get_layer("b"), 3)
    before = model.get_weights()
    small = shrink(model)
    assert small.removed == {"a": (5, 4)}
    assert np.array_equal(small.model.get_layer("a").kernel, np.delete(before[0], 3, axis=1))
    assert np.array_equal(small.model.get_layer("b").bias, before[3])
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights(), strict=True))


def test_what_only_a_dead_unit_reads_dies_with_it() -> None:
    model = stack((4,), layers.Dense(5, "relu"), layers.Dense(3, "relu"), layers.Dense(2))
    first, second, third = model.layers
    # Unit 0 of the first layer is read by unit 1 of the second alone, which nobody reads.
    second.kernel.assign(np.where(np.eye(5, 1)[:, [0, 0, 0]] * [1, 0, 1] > 0, 0, second.kernel))
    set_row(third, 1)
    small = shrink(model)
    assert small.removed == {first.name: (5, 4), second.name: (3, 2)}
    assert same_outputs(model, small.model)


def test_a_unit_that_reads_constants_alone_is_one() -> None:
    model = stack((4,), layers.Dense(3, "relu"), layers.Dense(3, "relu"), layers.Dense(2))
    first, second, third = model.layers
    set_column(first, 0, bias=3.0)
    second.kernel.assign([[0.5, 1, 1], [0, 1, 1], [0, 1, 1]])
    second.bias.assign([0.25, 0.0, 0.0])
    row, bias = np.array(third.kernel)[0], np.array(third.bias)
    small = shrink(model)
    assert small.removed == {first.name: (3, 2), second.name: (3, 2)}
    # 3 * 0.5 + 0.25, and then once more through a row.
    assert np.allclose(small.model.layers[1].bias, [3.0, 3.0])
    assert np.allclose(small.model.layers[2].bias, bias + 1.75 * row)
    assert same_outputs(model, small.model)


def test_one_unit_and_all_outputs_stay() -> None:
    model = stack((4,), layers.Dense(3, name="a"), layers.Dense(2, name="b"))
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    small = shrink(model)
    assert [layer.units for layer in small.model.layers] == [1, 2]


def test_what_is_skipped_stays() -> None:
    prune = Prune.model_validate(
        {
            "granularity": "weight",
            "target": {"kind": "fraction", "remove": 0.5},
            "layers": [{"match": "a", "skip": True}],
        }
    )
    model = golden(2.0)
    small = shrink(model, prune=prune)
    assert (small.model, small.units, small.equality) == (model, 0, None)


@pytest.mark.parametrize(("bias", "left"), [(2.0, 3), (-2.0, 2)])
def test_without_a_bias_to_take_it_only_zero_goes(bias: float, left: int) -> None:
    model = stack((2,), layers.Dense(3, "relu", name="a"), layers.Dense(1, use_bias=False))
    set_column(model.get_layer("a"), 1, bias)
    assert shrink(model).model.get_layer("a").units == left


@pytest.mark.parametrize(
    ("padding", "size", "bias", "left"),
    [
        ("valid", 3, 2.0, 3),
        ("same", 1, 2.0, 3),
        # At the border, padding would take the constant's place.
        ("same", 3, 2.0, 4),
        ("same", 3, -2.0, 3),
    ],
)
def test_convolutions(padding: str, size: int, bias: float, left: int) -> None:
    model = stack(
        (8, 8, 2),
        layers.Conv2D(4, 3, activation="relu", name="a"),
        layers.MaxPooling2D(),
        layers.Conv2D(3, size, padding=padding, strides=2, name="b"),
        layers.GlobalAveragePooling2D(),
    )
    set_column(model.get_layer("a"), 2, bias)
    small = shrink(model)
    assert small.model.get_layer("a").filters == left
    assert same_outputs(model, small.model)
    if padding == "valid":
        b = model.get_layer("b")
        expected = b.bias + 2.0 * np.array(b.kernel)[:, :, 2].sum(axis=(0, 1))
        assert np.allclose(small.model.get_layer("b").bias, expected)


def test_through_batch_normalisation_and_flatten() -> None:
    model = stack(
        (5, 5, 1),
        layers.Conv2D(3, 3, use_bias=False, name="a"),
        layers.BatchNormalization(epsilon=0.0, name="n"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(2, name="b"),
    )
    set_column(model.get_layer("a"), 1)
    # (0 - 1) / 2 * 6 + 7 = 4, for each of nine positions.
    for name, value in {"gamma": 6, "beta": 7, "moving_mean": 1, "moving_variance": 4}.items():
        getattr(model.get_layer("n"), name).assign(np.full(3, value))
    rows = np.array(model.get_layer("b").kernel).reshape(9, 3, 2)[:, 1].sum(axis=0)
    small = shrink(model)
    assert small.removed == {"a": (3, 2)}
    assert small.folded == {"b/1/bias": 9}
    assert np.allclose(small.model.get_layer("b").bias, model.get_layer("b").bias + 4 * rows)
    assert small.model.get_layer("n").moving_mean.shape == (2,)


@pytest.mark.parametrize(("makers", "left"), [("a", 4), ("ab", 3)])
def test_a_residual_unit_goes_when_all_its_makers_are_zero(makers: str, left: int) -> None:
    i = keras.Input((6,))
    a = layers.Dense(4, name="a")(i)
    b = layers.Dense(4, name="b")(layers.Dense(5, "relu")(a))
    model = randomise(keras.Model(i, layers.Dense(2)(layers.ReLU()(layers.Add()([a, b])))))
    for name in makers:
        set_column(model.get_layer(name), 2)
    small = shrink(model)
    assert small.model.get_layer("a").units == left
    assert same_outputs(model, small.model)


@pytest.mark.parametrize(("second", "left"), [(2.0, 2), (3.0, 3)])
def test_a_shared_layer_takes_the_same_constant_only(second: float, left: int) -> None:
    i = keras.Input((4,))
    a, b = layers.Dense(3, name="a"), layers.Dense(3, name="b")
    shared = layers.Dense(2)
    model = keras.Model(i, layers.Concatenate()([shared(a(i)), shared(b(i))]))
    randomise(model)
    set_column(a, 1, 2.0)
    set_column(b, 1, second)
    small = shrink(model)
    assert small.model.get_layer("a").units == left
    assert same_outputs(model, small.model)


def test_what_a_normalisation_looks_at_stays() -> None:
    model = stack((4,), layers.Dense(3, name="a"), layers.LayerNormalization(), layers.Dense(2))
    set_column(model.get_layer("a"), 0, 0.0)
    set_row(model.layers[-1], 0)
    assert shrink(model).units == 0


def test_a_sum_over_a_free_length_is_no_constant() -> None:
    """A softmax over positions turns a constant into 1 / length."""
    model = stack(
        (None, 2), layers.Dense(3), layers.Softmax(axis=1), layers.Conv1D(2, 1, name="reads")
    )
    set_column(model.layers[0], 1, 2.0)
    assert shrink(model).units == 0


@pytest.mark.parametrize(("rows", "dead"), [(80, 1), (40, 0)])
def test_constants_stay_where_no_other_length_can_be_tried(rows: int, dead: int) -> None:
    """The second probe has 64 steps, for which a table of 40 positions has no rows."""
    i = keras.Input((None, 2))
    positions = keras.ops.cumsum(keras.ops.ones_like(i[:, :, 0], dtype="int32"), axis=1)
    table = layers.Embedding(rows, 3)(positions)
    x = layers.Dense(3, name="a")(i)
    x = layers.Concatenate()([layers.Dense(2)(x), table])
    model = randomise(keras.Model(i, layers.Dense(1)(x)))
    set_column(model.get_layer("a"), 1, 2.0)
    assert shrink(model).units == dead


def test_a_recurrent_unit_goes_when_unread_but_not_as_a_constant() -> None:
    model = stack((5, 3), layers.LSTM(4, name="lstm"), layers.Dense(2))
    cell = model.get_layer("lstm").cell
    for kernel in (cell.kernel, cell.recurrent_kernel):
        columns = np.array(kernel)
        columns[:, 1::4] = 0  # All four gates of unit 1: it still has a state.
        kernel.assign(columns)
    assert shrink(model).units == 0
    rows = np.array(cell.recurrent_kernel)
    rows[2] = 0
    cell.recurrent_kernel.assign(rows)
    set_row(model.layers[-1], 2)
    small = shrink(model)
    assert small.model.get_layer("lstm").units == 3
    assert same_outputs(model, small.model)


@pytest.mark.parametrize("name", ["residual", "depthwise", "nested", "siamese", "vit"])
def test_larger_models(name: str) -> None:
    model = randomise({**ZOO, **BLOCKS}[name](), seed=1)
    random = np.random.default_rng(2)
    for kernel in kernels(model).values():
        shape = tuple(kernel.shape)
        columns = random.random(shape[-1]) < 0.8
        rows = random.random((shape[-2], 1)) < 0.8
        kernel.assign(values(kernel) * columns * rows * (random.random(shape) < 0.7))
    small = shrink(model)
    assert small.units > 0
    assert count(small.model).parameters < count(model).parameters
    assert small.equality is not None
    assert small.equality.output_scale > 0


@settings(max_examples=12, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sparsity=st.floats(0.4, 0.95),
    activation=st.sampled_from(["relu", "tanh", "sigmoid"]),
    seed=st.integers(0, 2**16),
)
def test_any_masks_of_an_mlp(
    widths: list[int], sparsity: float, activation: str, seed: int
) -> None:
    model = stack((5,), *(layers.Dense(width, activation) for width in widths), layers.Dense(3))
    randomise(model, seed)
    random = np.random.default_rng(seed)
    masks = {key: random.random(v.shape) >= sparsity for key, v in kernels(model).items()}
    constrain(model, masks)
    small = shrink(model, masks=masks)
    assert same_outputs(model, small.model)
    for layer in small.model.layers[:-1]:
        assert layer.units == 1 or np.any(layer.kernel, axis=0).all()
    left = variable_keys(small.model)
    for key, mask in small.masks.items():
        assert mask.shape == tuple(left[key].shape)
        assert not np.any(values(left[key])[~mask])


NM = Prune.model_validate({"granularity": {"kind": "n_m", "n": 1, "m": 2}})


def read(*units: int) -> tuple[Any, dict[str, Any]]:
    """A model of six units, of which these are read, and its masks."""
    model = stack((2,), layers.Dense(6, name="a"), layers.Dense(2, name="b"))
    stays = np.zeros((6, 2), dtype=np.bool_)
    stays[list(units)] = True
    kernel = model.get_layer("b").kernel
    kernel.assign(np.where(stays, kernel, 0))
    return model, {"b/0/kernel": stays}


def test_units_stay_where_runs_would_not_hold_without_them() -> None:
    model, masks = read(1, 2, 4)
    small = shrink(model, masks=masks, prune=NM)
    assert small.model is model
    assert small.note == (
        "3 dead units stay: without them, weights would move up, and runs of 2 would no longer "
        "hold at most 1."
    )
    assert shrink(model, masks=masks).removed == {"a": (6, 3)}


def test_units_go_where_runs_hold() -> None:
    model, masks = read(1)
    small = shrink(model, masks=masks, prune=NM)
    assert (small.removed, small.note) == ({"a": (6, 1)}, None)
    assert small.masks["b/0/kernel"].all()


def test_runs() -> None:
    stays = np.array([1, 0, 0, 1, 1], dtype=np.bool_).reshape(1, 5, 1)
    assert holds(stays, 1, 2)
    assert holds(stays, 2, 4)
    assert not holds(np.delete(stays, 1, axis=1), 1, 2)


def test_a_model_that_computes_something_else_is_not_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The package has a function of the module's name.
    module = import_module("workers.engine.shrink")
    monkeypatch.setattr(module, "_fold", lambda *_: {})
    with pytest.raises(InternalError, match="does not compute what it computed"):
        shrink(golden(2.0))
