"""Operations of `keras.ops`: each is proven, or stays and says why; see `test_zoo_ops`."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from app.domain.prune import Prune
from tests.workers.engine.zoo import cut_units, randomise
from tests.workers.engine.zoo_ops import ZOO, numbers
from workers.engine import analyse, apply, count, predict, prove
from workers.engine.rules import RULES
from workers.engine.rules.operations import REASONS
from workers.engine.rules.operations.classes import CLASSES, MODULES

HALF = {"target": {"kind": "fraction", "remove": 0.5}}
Build = Callable[[Any], Any]
REMOVABLE: dict[str, Build] = {
    "logaddexp": lambda x: ops.logaddexp(x, 0.5),
    "cast": lambda x: ops.cast(ops.cast(x, "int32"), "float32") + ops.cast(x, "float32"),
    "copy": lambda x: ops.stop_gradient(ops.copy(x)),
    "where": lambda x: ops.where(ops.logical_and(x > 0, x < 1), x, -x),
    "select": lambda x: ops.select([x > 1.0, x > 0.0], [x, 2.0 * x], 0.1),
    "isclose": lambda x: ops.cast(ops.isclose(x, 0.1, atol=0.3), "float32"),
    "digitize": lambda x: ops.cast(ops.digitize(x, np.array([-0.5, 0.0, 0.5])), "float32"),
    "constant_of_channels": lambda x: x + numbers(6),
    "constant_of_all": lambda x: x - numbers(1, 4, 6),
    "constant_column": lambda x: x * numbers(4, 1),
    "constant_of_higher_rank": lambda x: ops.swapaxes(x * numbers(2, 1, 4, 6), 0, 1),
    "constant_tensor": lambda x: ops.minimum(x, ops.convert_to_tensor(numbers(4, 6))),
    "expanded": lambda x: ops.squeeze(ops.expand_dims(x, (1, 3)), (1, 3)),
    "moveaxis": lambda x: ops.moveaxis(x, (1, 2), (2, 1)),
    "reversed": lambda x: ops.transpose(ops.sin(ops.transpose(x))),
    "broadcast_to": lambda x: ops.broadcast_to(ops.expand_dims(x, 1), (4, 3, 4, 6)),
    "rot90": lambda x: ops.rot90(ops.rot90(x, 3, (1, 2)) * numbers(6, 1), 3, (2, 1)),
    "hstack": lambda x: ops.hstack([x, x * numbers(6)]),
    "append": lambda x: ops.append(x, ops.sin(x), axis=2),
    "stack": lambda x: ops.stack([x, ops.sin(x)], axis=-1),
    "pad": lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 1)), constant_values=0.3),
    "tile": lambda x: ops.tile(x, (1, 2, 2)),
    "repeat": lambda x: ops.repeat(x, 2, axis=-1),
    "flip": lambda x: ops.flip(x, axis=-1) * numbers(6),
    "fliplr": lambda x: ops.fliplr(x) * numbers(4, 6),
    "slice": lambda x: x[None, :, 1:3, 2:-1][0],
    "slice_of_all": lambda x: x[:, :, 0:6],
    "picked": lambda x: x[..., 3],
    "picked_from_the_end": lambda x: x[:, ::-1, -2:],
    "every_second": lambda x: x[..., 1::2],
    "backwards": lambda x: x[..., ::-1] * numbers(6),
    "take": lambda x: ops.take(x, [4, 0, 0, -1], axis=2),
    "take_one": lambda x: ops.take(x, 2, axis=2),
    "split_at": lambda x: ops.split(x, [1, 4], axis=-1)[1],
    "block": lambda x: ops.slice(x, (0, 1, 0), (2, 2, 6)),
    "unstack_rows": lambda x: ops.unstack(x, axis=1)[2],
    "sort_rows": lambda x: ops.sort(x, axis=1),
    "argmax_rows": lambda x: ops.cast(ops.argmax(x, axis=1), "float32"),
    "softmax_rows": lambda x: ops.log_softmax(x, axis=1),
    "sum": lambda x: ops.sum(x, axis=(1, 2), keepdims=True),
    "var": lambda x: ops.var(x, axis=2),
    "any": lambda x: ops.cast(ops.any(x > 0.5, axis=-1), "float32"),
    "count": lambda x: ops.cast(ops.count_nonzero(ops.relu(x), axis=-1), "float32"),
    "quantile": lambda x: ops.swapaxes(ops.quantile(x, [0.2, 0.7], axis=2), 0, 1),
    "norm": lambda x: ops.norm(x, ord=1, axis=-1),
    "matmul_constant": lambda x: ops.matmul(x, numbers(6, 3)),
    "matmul_vector": lambda x: ops.matmul(x, numbers(6)),
    "matmul_left": lambda x: ops.matmul(numbers(3, 4), x),
    "dot": lambda x: ops.dot(x, numbers(6, 2)),
    "inner": lambda x: ops.inner(x, numbers(3, 6)),
    "tensordot": lambda x: ops.tensordot(x, numbers(6, 4, 2), axes=((1, 2), (1, 0))),
    "einsum": lambda x: ops.einsum("...tc,cd->...td", x, numbers(6, 3)),
    "einsum_implicit": lambda x: ops.einsum("btc,cd", x, numbers(6, 3)),
    "einsum_sum": lambda x: ops.einsum("btc->bt", x),
    "gram": lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)),
    "bilinear": lambda x: ops.matmul(ops.swapaxes(x, 1, 2), x),
    "layer_norm": lambda x: ops.layer_normalization(x, numbers(6), numbers(6, seed=1)),
    "rms_norm": lambda x: ops.rms_normalization(x, numbers(6)),
    "normalize": lambda x: ops.normalize(x, axis=-1, order=1),
    "batch_norm": lambda x: ops.batch_normalization(
        x, numbers(6), np.square(numbers(6)), axis=-1, offset=numbers(6), scale=numbers(6)
    ),
    "glu": lambda x: ops.glu(x, axis=-1),
    "pool": lambda x: ops.average_pool(ops.max_pool(x, 2), 2),
    "space_to_depth": lambda x: ops.space_to_depth(ops.stack([x, ops.sin(x)], axis=1), 2),
    "resize": lambda x: ops.image.resize(ops.expand_dims(x, 1), (2, 3)),
}
STAYS: dict[str, tuple[Build, str]] = {
    "roll": (lambda x: ops.roll(x, 1, axis=-1), "rolls it"),
    "sort": (lambda x: ops.sort(x), "in its order"),
    "cumsum": (lambda x: ops.cumsum(x, axis=-1), "in its order"),
    "argmax": (lambda x: ops.cast(ops.argmax(x, axis=-1), "float32"), "in its order"),
    "softmax": (lambda x: ops.softmax(x), "in its order"),
    "top_k": (lambda x: ops.top_k(x, 2)[0], "in its order"),
    "steps": (lambda x: x[..., 1::4], "picks from it by steps"),
    "unstack": (lambda x: ops.unstack(x, axis=-1)[0], "each of its indices"),
    "array_split": (lambda x: ops.array_split(x, 4, axis=-1)[0], "nearly the same size"),
    "reflect": (lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 1)), mode="reflect"), "its own values"),
    "repeat_list": (lambda x: ops.repeat(x, [1, 2, 1, 1, 1, 1], axis=-1), "as a list says"),
    "tril": (lambda x: ops.tril(x), "rows or columns"),
    "trace": (lambda x: ops.trace(x, axis1=1, axis2=2), "for matrices"),
    "conv": (lambda x: ops.conv(x, numbers(2, 6, 3)), "a kernel that is no weight"),
    "average": (lambda x: ops.average(x, weights=numbers(6), axis=-1), "weighs units"),
    "take_by": (lambda x: ops.take(x, ops.cast(x[0, 0] > 0, "int32"), axis=2), "by an index"),
    "one_hot": (lambda x: ops.one_hot(ops.cast(x > 0, "int32"), 2), "whole numbers"),
}


def branches(builds: dict[str, Build]) -> Any:
    """One model for many operations: a layer, the operation, and a layer that reads it."""
    i = keras.Input((4, 5), batch_size=4)
    outputs = []
    for name, build in builds.items():
        y = build(layers.Dense(6, name=f"made_{name}")(i))
        y = ops.expand_dims(y, 1) if len(y.shape) == 1 else y
        outputs.append(layers.Dense(2)(layers.Flatten()(y)))
    return randomise(keras.Model(i, outputs))


@pytest.fixture(scope="module")
def removable() -> Any:
    return branches(REMOVABLE)


def test_every_operation_is_proven(removable: Any, tmp_path: Path) -> None:
    cut = cut_units(removable, Prune.model_validate(HALF))
    assert set(cut.removed) == {f"made_{name}" for name in REMOVABLE}
    reduced = apply(removable, cut)
    equality = prove(removable, reduced, cut)
    assert equality.holds, equality
    assert predict(removable, cut) == count(reduced)
    reduced.save(tmp_path / "model.keras")
    assert prove(removable, keras.models.load_model(tmp_path / "model.keras"), cut).holds


def test_what_is_in_order_stays_with_its_reason() -> None:
    model = branches({name: build for name, (build, _) in STAYS.items()})
    found = {layer.name: layer for layer in analyse(model).layers}
    for name, (_, reason) in STAYS.items():
        layer = found[f"made_{name}"]
        assert layer.prunable == 0
        assert reason in (layer.frozen or ""), name


def test_every_operation_has_a_rule_or_a_reason() -> None:
    without = []
    for module in MODULES:
        for name, found in vars(import_module(f"keras.src.ops.{module}")).items():
            if inspect.isclass(found) and issubclass(found, keras.Operation):
                if issubclass(found, keras.layers.Layer) or found is keras.Operation:
                    continue
                if found not in RULES:
                    without.append(f"{module}.{name}")
    assert without == []
    assert set(REASONS) <= set(CLASSES)


def test_a_reason_is_said() -> None:
    model = branches({"sorted": lambda x: ops.take_along_axis(x, np.zeros((4, 1, 6), int), axis=1)})
    assert analyse(model).walk.opaque == {
        "take_along_axis": "take_along_axis takes each of its values for a position, a bin or an "
        "index"
    }


def without(model: Any, **removed: list[int]) -> Any:
    """The model without these units, proven."""
    usual = cut_units(model, Prune.model_validate(HALF))
    cut = replace(usual, removed={name: np.array(units) for name, units in removed.items()})
    reduced = apply(model, cut)
    assert prove(model, reduced, cut).holds
    assert predict(model, cut) == count(reduced)
    return reduced


def calls_of(model: Any, kind: str) -> list[Any]:
    """The arguments that operations of a class are called with, in order."""
    found = [each for each in model.operations if type(each).__name__ == kind]
    return [each._inbound_nodes[0].arguments for each in found]


def made(build: Build, units: int = 6) -> Any:
    """A layer "made", what `build` does to it, and a layer that reads it."""
    i = keras.Input((4, 5))
    x = build(layers.Dense(units, name="made")(i))
    return randomise(keras.Model(i, layers.Dense(2)(layers.Flatten()(x))))


def test_constants_lose_the_same_and_stay_what_they_were() -> None:
    def build(x: Any) -> Any:
        x = x * np.arange(6.0, dtype="float32") + ops.convert_to_tensor(numbers(4, 6))
        return x - numbers(4, 1)

    reduced = without(made(build), made=[0, 2, 3])
    (times,), (plus,), (minus,) = (calls_of(reduced, n) for n in ("Multiply", "Add", "Subtract"))
    assert isinstance(times.args[1], np.ndarray)
    assert times.args[1].tolist() == [1.0, 4.0, 5.0]
    assert keras.ops.is_tensor(plus.args[1])
    assert np.array_equal(plus.args[1], numbers(4, 6)[:, [1, 4, 5]])
    assert np.array_equal(minus.args[1], numbers(4, 1))


def test_a_constant_per_position_never_turns_into_a_bias() -> None:
    """Keras' TensorFlow backend takes what fits the last axis for a bias: 4 of 6 channels do."""
    reduced = without(made(lambda x: x + numbers(4, 1)), made=[0, 5])
    (plus,) = calls_of(reduced, "Add")
    assert np.array_equal(plus.args[1], numbers(4, 1).repeat(4, axis=1))
    model = made(lambda x: x + numbers(4, 1), units=4)
    assert "backends disagree" in (analyse(model).layers[1].frozen or "")


def test_constants_in_a_list_lose_the_same() -> None:
    reduced = without(made(lambda x: ops.stack([x, 0 * x + numbers(6)], axis=1)), made=[5])
    assert reduced.get_layer("made").units == 5
    joined = made(lambda x: ops.concatenate([x[:1, :], numbers(1, 4, 6)], axis=0))
    (call,) = calls_of(without(joined, made=[1, 5]), "Concatenate")
    assert np.array_equal(call.args[0][1], numbers(1, 4, 6)[:, :, [0, 2, 3, 4]])


@pytest.mark.parametrize(
    ("key", "removed", "expected"),
    [
        ((..., slice(2, -1)), [0, 3], slice(1, 3)),
        ((slice(None), slice(1, 3), slice(None, 4)), [1, 5], slice(0, 3)),
        ((..., 4), [0, 2], 2),
        ((..., slice(1, None, 2)), [0, 1, 4, 5], slice(1, None, 2)),
        ((..., slice(None, None, -1)), [2], slice(None, None, -1)),
    ],
)
def test_keys_count_what_stays(key: Any, removed: list[int], expected: Any) -> None:
    reduced = without(made(lambda x: x[key]), made=removed)
    (call,) = calls_of(reduced, "GetItem")
    assert call.args[1][-1] == expected


def test_taken_indices_count_what_stays() -> None:
    reduced = without(made(lambda x: ops.take(x, [5, 0, 3, -1], axis=-1)), made=[2, 3])
    assert calls_of(reduced, "Take")[0].args[1] == [3, 0, 3]


@pytest.mark.parametrize(
    ("removed", "sections"), [([1, 4], 2), ([1, 2], [1]), ([4], [3]), ([1, 2, 5], [1])]
)
def test_parts_are_split_where_they_end(removed: list[int], sections: Any, tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        a, b = ops.split(x, 2, axis=-1)
        return ops.concatenate([b, ops.sin(a)], axis=-1)

    model = made(build)
    reduced = without(model, made=removed)
    (split,) = [each for each in reduced.operations if type(each).__name__ == "Split"]
    given = split.indices_or_sections
    assert (given if isinstance(given, int) else list(given)) == sections
    reduced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert count(loaded) == count(reduced)


def test_a_part_never_loses_everything() -> None:
    """The two smallest columns are all of the first part."""

    def build(x: Any) -> Any:
        a, b = ops.split(x, [2], axis=-1)
        return ops.concatenate([layers.Dense(3)(a), layers.Dense(3)(b)], axis=-1)

    model = made(build)
    kernel = model.get_layer("made").kernel
    kernel.assign(kernel * np.array([0.01, 0.01, 1, 1, 1, 1], dtype="float32"))
    cut = cut_units(model, Prune.model_validate(HALF))
    assert 1 in cut.removed["made"]
    assert 0 not in cut.removed["made"]
    assert "needs one of each of its parts" in (analyse(model).layers[1].frozen or "")
    assert prove(model, apply(model, cut), cut).holds


def test_the_same_index_taken_again_and_again_stays() -> None:
    model = made(lambda x: ops.take(x, [3, 3, 3, 3, 3, 3], axis=-1))
    kernel = model.get_layer("made").kernel
    kernel.assign(kernel * np.array([1, 1, 1, 0.01, 1, 1], dtype="float32"))
    cut = cut_units(model, Prune.model_validate(HALF))
    assert 3 not in cut.removed["made"]
    assert prove(model, apply(model, cut), cut).holds


def test_halves_that_gate_each_other_need_no_such_care() -> None:
    model = made(lambda x: ops.multiply(*ops.split(x, 2, axis=-1)))
    assert analyse(model).layers[1].frozen is None
    assert without(model, made=[0, 1, 3, 4]).get_layer("made").units == 2


def test_attention_keeps_its_scale() -> None:
    i = keras.Input((4, 5))
    q, k, v = (ops.reshape(layers.Dense(8, name=n)(i), (-1, 4, 2, 4)) for n in "qkv")
    y = ops.reshape(ops.dot_product_attention(q, k, v), (-1, 4, 8))
    model = randomise(keras.Model(i, layers.Dense(2)(y)))
    gone = [1, 5]  # Dimension 1 of both heads.
    reduced = without(model, q=gone, k=gone, v=gone)
    # 1/sqrt(4): the scores of what stays are divided as they were.
    assert calls_of(reduced, "DotProductAttention")[0].kwargs["scale"] == 0.5
    assert all(layer.heads == 2 for layer in analyse(model).layers[1:4])


def test_fused_projections_are_grids_of_each_part() -> None:
    """Query and key share their dimensions, values have their own; all share the heads."""
    model = randomise(ZOO["fused_split"]())
    groups = [group for group in analyse(model).groups if "qkv" in group.columns]
    assert sorted((g.heads, g.units.size, g.columns["qkv"]) for g in groups) == [
        (False, 4, 3),
        (False, 4, 6),
        (True, 3, 12),
    ]


def test_macs_of_products_by_hand() -> None:
    counts = count(ZOO["transformer"]())
    found = {layer.name: layer.macs for layer in counts.layers if layer.class_name == "Matmul"}
    # 3 heads, 5 queries, 5 keys, 4 dimensions, twice.
    assert list(found.values()) == [3 * 5 * 5 * 4] * 2
    assert counts.macs_exact
    assert counts.macs == sum(layer.macs for layer in counts.layers)


def test_macs_of_windows_that_became_samples_are_not_exact() -> None:
    assert not count(ZOO["window_attention"]()).macs_exact


def test_a_dot_layer_sums_over_units() -> None:
    model = ZOO["dotted"]()
    assert count(model).by_name[model.layers[3].name].macs == 4 * 4 * 8
    assert analyse(model).layers[1].coupled_with == (model.layers[2].name,)
