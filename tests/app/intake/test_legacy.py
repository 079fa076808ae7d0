"""Legacy files compute under Keras 3 what they computed under Keras 2 (tf_keras), to 1e-5."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from app.domain.errors import InvalidModel
from app.intake.legacy import mend_file
from app.intake.models import inspect_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

HARD = "hard_sigmoid"


def functional(build, *shape, dtype=None):
    """A builder of a model with one input."""

    def make(k):
        inputs = k.Input(shape, dtype=dtype)
        return k.Model(inputs, build(k.layers, inputs))

    return make


def nested(k):
    inner_in, inputs = k.Input((4,)), k.Input((6,))
    x = k.layers.BatchNormalization(trainable=False)(k.layers.Dense(4)(inner_in))
    inner = k.Model(inner_in, k.layers.Dense(4, activation=HARD)(x))
    x = inner(k.layers.Dense(4)(inputs))
    return k.Model(inputs, k.layers.Add()([x, inner(x)]))


def frozen(k):
    base = k.Sequential(
        [
            k.layers.Conv2D(3, 2, input_shape=(6, 6, 2)),
            k.layers.BatchNormalization(),
            k.layers.GlobalAveragePooling2D(),
        ]
    )
    base.trainable = False
    return k.Sequential([base, k.layers.Dense(3, activation="softmax")])


def states(k):
    a, b = k.Input((5, 3)), k.Input((4, 3))
    _, h, c = k.layers.LSTM(4, return_state=True, recurrent_activation=HARD)(a)
    return k.Model([a, b], k.layers.LSTM(4, return_sequences=True)(b, initial_state=[h, c]))


def branches(k):
    inputs = [k.Input((4,)), k.Input((4,))]
    twin = k.layers.Dense(4)
    x, y = twin(inputs[0]), k.layers.Dense(4)(twin(inputs[1]))
    z = k.layers.Add()([k.layers.Dense(4)(x), y])
    return k.Model(inputs, [k.layers.Dense(4)(z), k.layers.Subtract()([z, x])])


def convolutional(k):
    la = k.layers
    return k.Sequential(
        [
            la.Conv2D(4, 3, padding="same", strides=2, input_shape=(9, 9, 3)),
            la.BatchNormalization(axis=3),
            la.LeakyReLU(alpha=0.2),
            la.MaxPooling2D(),
            la.SeparableConv2D(5, 2, activation=HARD),
            la.Conv2DTranspose(4, 3, activation=HARD),
            la.DepthwiseConv2D(2, activation=HARD),
            la.Conv2D(3, 1, activation=HARD),
            la.Activation(HARD),
            la.ThresholdedReLU(0.6),
            la.Flatten(),
            la.Dense(3, activation="gelu"),
        ]
    )


def operators(k):
    inputs = k.Input((5,))
    x = k.layers.Dense(5)(inputs)
    return k.Model(inputs, k.layers.ReLU(6.0)(x * 2.0 + 3.0) * (1.0 / 6.0) + x)


ROWS, WORDS = (6, 3), (6,)
BUILDERS = {
    "convolutional": convolutional,
    "dense": functional(lambda la, x: la.Dense(4, activation=HARD)(la.PReLU()(x)), 5),
    "bare activation": functional(lambda la, x: la.Activation(HARD)(la.Dense(4)(x)), 5),
    "lstm": functional(lambda la, x: la.LSTM(5, recurrent_activation=HARD)(x), *ROWS),
    "lstm without bias": functional(
        lambda la, x: la.LSTM(5, recurrent_activation=HARD, use_bias=False)(x), *ROWS
    ),
    "gru after": functional(
        lambda la, x: la.GRU(5, recurrent_activation=HARD, activation=HARD)(x), *ROWS
    ),
    "gru before": functional(
        lambda la, x: la.GRU(5, recurrent_activation=HARD, reset_after=False)(x), *ROWS
    ),
    "gru before, candidate": functional(
        lambda la, x: la.GRU(5, activation=HARD, reset_after=False)(x), *ROWS
    ),
    "simple": functional(lambda la, x: la.SimpleRNN(5, activation=HARD)(x), *ROWS),
    "convolutional lstm": functional(lambda la, x: la.ConvLSTM2D(3, 2)(x), 3, 5, 5, 2),
    "cells": functional(
        lambda la, x: la.RNN(
            [
                la.GRUCell(4, recurrent_activation=HARD),
                la.LSTMCell(3),
                la.GRUCell(2, recurrent_activation=HARD),
            ]
        )(x),
        *ROWS,
    ),
    "both ways": functional(
        lambda la, x: la.Bidirectional(la.LSTM(4, recurrent_activation=HARD))(x), *ROWS
    ),
    "both ways, told apart": functional(
        lambda la, x: la.Bidirectional(
            la.LSTM(4), backward_layer=la.LSTM(4, go_backwards=True, recurrent_activation=HARD)
        )(x),
        *ROWS,
    ),
    "time distributed": functional(
        lambda la, x: la.TimeDistributed(la.Dense(4, activation=HARD))(x), *ROWS
    ),
    "words": functional(
        lambda la, x: la.GRU(3)(la.Embedding(9, 4, mask_zero=True, input_length=6)(x)), *WORDS
    ),
    "attention": functional(
        lambda la, x: la.Attention()([la.MultiHeadAttention(2, 3)(x, x), x]), *ROWS
    ),
    "norm axes": functional(lambda la, x: la.LayerNormalization(axis=[1, 2])(x), *ROWS),
    "batch_input_shape": lambda k: k.Sequential(
        [k.layers.LSTM(4, batch_input_shape=(2, 6, 3), stateful=True), k.layers.Dense(2)]
    ),
    "nested": nested,
    "frozen": frozen,
    "states": states,
    "branches": branches,
    "operators": operators,
}


class Golden:
    """One Keras 2 model: its files, inputs and outputs."""

    def __init__(self, k, name, folder):
        k.utils.set_random_seed(7)
        model = BUILDERS[name](k)
        chance = np.random.default_rng(5)
        values = [chance.uniform(-1, 1, tuple(w.shape)) for w in model.weights]
        names = [w.name for w in model.weights]
        model.set_weights(
            [abs(v) + 0.5 if "variance" in n else v for v, n in zip(values, names, strict=True)]
        )
        shapes = [(2, *tensor.shape[1:]) for tensor in model.inputs]
        draw = chance.integers if name == "words" else chance.normal
        self.inputs = [draw(0, 9, s) if name == "words" else draw(size=s) for s in shapes]
        self.inputs = [np.asarray(x, "float32") for x in self.inputs]
        # Predict through the graph function: stateful layers start from zeros once.
        given = self.inputs if len(self.inputs) > 1 else self.inputs[0]
        found = model(given, training=False)
        found = found if isinstance(found, (list, tuple)) else [found]
        self.outputs = [np.asarray(item) for item in found]
        self.parameters = model.count_params()
        self.counts = {layer.name: layer.count_params() for layer in model.layers}
        self.paths = {}
        for suffix in ("h5", "keras"):
            self.paths[suffix] = folder / f"{name}.{suffix}"
            model.save(self.paths[suffix])


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    import tf_keras

    folder = tmp_path_factory.mktemp("keras2")
    return {name: Golden(tf_keras, name, folder) for name in BUILDERS}


def assert_parity(path, case):
    model = keras.models.load_model(path, compile=False)
    given = case.inputs if len(case.inputs) > 1 else case.inputs[0]
    found = keras.tree.flatten(model(given, training=False))
    assert model.count_params() == case.parameters
    for ours, theirs in zip(found, case.outputs, strict=True):
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", BUILDERS)
def test_mended_model_computes_the_same(golden, tmp_path, name, suffix):
    case, target = golden[name], tmp_path / f"m.{suffix}"
    info = inspect_model(case.paths[suffix], "m")
    assert info.legacy
    assert info.format == suffix
    assert info.parameters == case.parameters
    read = {layer.name: layer.parameters for layer in info.layers}
    assert {key: read[key] for key in case.counts} == case.counts
    assert mend_file(case.paths[suffix], target) == info.mends
    assert_parity(target, case)
    again = inspect_model(target, "m")
    assert not again.legacy
    assert again.mends == ()
    assert again.parameters == case.parameters
    assert [item.shape for item in again.outputs] == [item.shape for item in info.outputs]


def test_mends_say_what_and_why(golden):
    info = inspect_model(golden["both ways"].paths["h5"], "m.h5")
    said = [mend.what for mend in info.mends]
    assert "time_major=False removed" in said
    assert "weights and biases of the gates before hard_sigmoid multiplied by 1.2" in said
    assert all(mend.why for mend in info.mends)


def edited(source, target, change):
    """A copy of an `.h5` file whose config went through `change`, as older releases wrote it."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config = change(config) or config
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.0.9"
    return target


def walk(value):
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def in_old_style(config):
    """Keras 2.0's habits: no modules, initialisers with dtype, class name Model, list configs."""
    for part in walk(config):
        part.pop("module", None)
        part.pop("registered_name", None)
        part.pop("build_config", None)
        if part.get("class_name") == "Functional":
            part["class_name"] = "Model"
        if part.get("class_name") in ("GlorotUniform", "Zeros", "Ones", "Orthogonal"):
            part["config"]["dtype"] = "float32"
        if part.get("class_name") == "BatchNormalization" and isinstance(
            part["config"].get("axis"), list
        ):
            part["config"]["axis"] = part["config"]["axis"][0]
        if part.get("class_name") == "GlorotUniform":
            part.update(
                class_name="VarianceScaling",
                config={"scale": 1.0, "mode": "fan_avg", "distribution": "normal", "seed": None},
            )
        if part.get("class_name") in ("GRU", "GRUCell") and not part["config"]["reset_after"]:
            part["config"].pop("reset_after")
        if part.get("class_name") == "LeakyReLU":
            part["config"]["alpha"] = {"type": "ndarray", "value": part["config"]["alpha"]}


def as_list(config):
    in_old_style(config)
    inner = config["config"]["layers"]
    if inner[0]["class_name"] == "InputLayer":
        inner[1]["config"]["batch_input_shape"] = inner[0]["config"]["batch_input_shape"]
        inner = inner[1:]
    return {"class_name": "Sequential", "config": inner}


LISTED = ("convolutional", "batch_input_shape")


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "frozen"])
def test_older_styles_compute_the_same(golden, tmp_path, name):
    change = as_list if name in LISTED else in_old_style
    path = edited(golden[name].paths["h5"], tmp_path / "old.h5", change)
    assert inspect_model(path, "old.h5").parameters == golden[name].parameters
    mend_file(path, tmp_path / "m.h5")
    assert_parity(tmp_path / "m.h5", golden[name])


def test_keras_2_archive_with_its_own_layout_is_mended(golden, tmp_path):
    """Keras 2.12 kept weights elsewhere, counted with gaps."""
    with zipfile.ZipFile(golden["branches"].paths["keras"]) as old:
        (tmp_path / "w.h5").write_bytes(old.read("model.weights.h5"))
        texts = {name: old.read(name) for name in ("metadata.json", "config.json")}
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
        root = file["_layer_checkpoint_dependencies"]
        for count in (4, 3, 2, 1):
            if f"dense_{count}" in root:
                root.move(f"dense_{count}", f"dense_{2 * count}")
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as new:
        for name, text in texts.items():
            new.writestr(name, text)
        new.write(tmp_path / "w.h5", "model.weights.h5")
    case = golden["branches"]
    assert inspect_model(tmp_path / "old.keras", "old").parameters == case.parameters
    mend_file(tmp_path / "old.keras", tmp_path / "m.keras")
    assert_parity(tmp_path / "m.keras", case)


@pytest.mark.parametrize("version", ["1.2.2", "0.3.0"])
def test_keras_1_is_refused(golden, tmp_path, version):
    path = tmp_path / "m.h5"
    path.write_bytes(golden["dense"].paths["h5"].read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = version
    with pytest.raises(InvalidModel, match="Keras 2 and 3 are accepted"):
        inspect_model(path, "m.h5")


def test_theano_kernels_are_refused(golden, tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(golden["dense"].paths["h5"].read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["backend"] = "theano"
    with pytest.raises(InvalidModel, match="theano"):
        inspect_model(path, "m.h5")


def test_files_that_keras_3_cannot_read_back_are_mended(tmp_path):
    inputs = keras.Input((4, 3))
    x = keras.layers.Attention()([inputs, inputs])
    inner_in = keras.Input((4, 3))
    inner = keras.Model(inner_in, keras.layers.LayerNormalization(axis=[1, 2])(inner_in))
    model = keras.Model(inputs, inner(x))
    model.save(tmp_path / "m.h5")
    with pytest.raises(TypeError, match="score_mode"):
        keras.models.load_model(tmp_path / "m.h5")
    info = inspect_model(tmp_path / "m.h5", "m.h5")
    assert not info.legacy
    assert len(info.mends) == 2
    mend_file(tmp_path / "m.h5", tmp_path / "n.h5")
    values = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    mended = keras.models.load_model(tmp_path / "n.h5", compile=False)
    np.testing.assert_allclose(mended(values), model(values), rtol=1e-6, atol=1e-6)
