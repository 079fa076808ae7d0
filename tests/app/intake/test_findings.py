"""All findings about a model file come in one problem."""

import keras
import pytest
from keras import layers

from app.domain.errors import InvalidModel
from app.intake.findings import LIMIT, Findings
from app.intake.legacy import plan_mends
from app.intake.models import inspect_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


class Own(layers.Layer):
    def call(self, x):
        return x


def refusal(model, path):
    model.save(path)
    with pytest.raises(InvalidModel) as caught:
        inspect_model(path, path.name)
    return caught.value


def fields(error):
    return [one["field"] for one in error.errors]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_every_layer_is_named_with_its_path(tmp_path, suffix):
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Lambda(lambda x: x, name="code")], name="inner"
    )
    inputs = keras.Input((4,))
    x = Own(name="own")(layers.Dense(4, name="fine")(inner(inputs)))
    error = refusal(keras.Model(inputs, x), tmp_path / f"m.{suffix}")
    assert fields(error) == ["layers.inner/code", "layers.own"]
    assert "Lambda" in error.errors[0]["detail"]
    assert error.detail == error.errors[0]["detail"] + " (1 more under errors)"


def test_several_layers_with_bad_weights(tmp_path):
    model = keras.Sequential([keras.Input((2,)), *(layers.Dense(2, name=n) for n in "abc")])
    for name in "ac":
        model.get_layer(name).bias.assign([0.0, float("nan")])
    assert fields(refusal(model, tmp_path / "m.keras")) == ["layers.a", "layers.c"]


def test_legacy_models_too():
    def named(class_name, name, **config):
        return {"class_name": class_name, "config": {"name": name, **config}}

    inner = named("Sequential", "inner", layers=[named("Lambda", "code")])
    items = [
        named("InputLayer", "x", batch_input_shape=[None, 3]),
        inner,
        named("CuDNNGRU", "old", units=2),
    ]
    with pytest.raises(InvalidModel) as caught:
        plan_mends(named("Sequential", "m", layers=items))
    assert fields(caught.value) == ["layers.inner/code", "layers.old"]


def test_their_number_and_length_are_bounded():
    findings = Findings()
    for index in range(2 * LIMIT):
        with findings.of("x" * 10_000):
            raise InvalidModel(f"{index} " + "y" * 10_000)
    with pytest.raises(InvalidModel, match="99 more, the first 50") as caught:
        findings.check()
    assert len(caught.value.errors) == LIMIT
    assert len(str(caught.value.errors)) < LIMIT * 2100


def test_nothing_found_is_no_error():
    findings = Findings()
    with findings.of("fine"):
        pass
    findings.check()


@pytest.mark.parametrize("build", [layers.Dense, lambda n: layers.MultiHeadAttention(2, n)])
def test_quantised_models_say_what_to_do(tmp_path, build):
    inputs = keras.Input((6, 8))
    layer = build(4)
    x = layer(inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else layer(inputs)
    model = keras.Model(inputs, x)
    model.quantize("int8")
    detail = refusal(model, tmp_path / "m.keras").detail
    assert f"Layer {layer.name!r} is already quantised" in detail
    assert "rune before quantising" in detail


def test_subclassed_models_are_told_apart(tmp_path):
    class Subclass(keras.Model):
        def call(self, x):
            return x

    model = Subclass()
    model(keras.ops.zeros((1, 2)))
    assert "class 'Subclass'" in refusal(model, tmp_path / "m.keras").detail
