"""The static reading of model files, held against what Keras says of the same models."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from app.domain.errors import InvalidModel
from app.intake.known import ACTIVATIONS, KNOWN_LAYERS, PYTHON_NAMES, REASONS
from app.intake.models import inspect_model
from tests.app.importing import loaded

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def dense():
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, activation="relu"),
            layers.Dropout(0.3),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def convolutional():
    x = inputs = keras.Input((16, 15, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(4, 3, padding="same", strides=2)(x)
    x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    y = layers.SeparableConv2D(4, 3, padding="same")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(y)])
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(layers.ZeroPadding2D(1)(x))
    x = layers.Concatenate()([x, layers.UpSampling2D(2)(layers.AveragePooling2D(2)(x))])
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def recurrent():
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(20, 6)(inputs)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True, dropout=0.1))(x)
    x = layers.TimeDistributed(layers.Dense(5))(x)
    x = layers.GRU(4, return_sequences=True)(x)
    return keras.Model(inputs, [layers.SimpleRNN(3)(x), layers.GlobalMaxPooling1D()(x)])


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.BatchNormalization()])
    a = keras.Input((6,))
    branch = keras.Model(a, layers.Dense(4, name="twin")(layers.Dense(4)(a)))
    inputs = keras.Input((6,))
    x = layers.Add()([inner(inputs), branch(inputs)])
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(x)))


def attention():
    inputs = keras.Input((7, 8))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = layers.LayerNormalization()(x + inputs)
    x = layers.EinsumDense("abc,cd->abd", (None, 8))(keras.ops.gelu(x))
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x))


def shared_and_many():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    twin = layers.Dense(3)
    x = layers.Concatenate()([twin(a), twin(b)])
    ends = {"left": layers.Dense(2, name="left")(x), "right": layers.Dense(1, name="right")(x)}
    return keras.Model({"a": a, "b": b}, ends)


def normalized():
    layer = layers.Normalization()
    layer.adapt(np.arange(12, dtype="float32").reshape(4, 3))
    return keras.Sequential(
        [
            keras.Input((3,)),
            layer,
            layers.PReLU(),
            layers.Reshape((3, 1)),
            layers.Conv1D(4, 2),
            layers.GRU(2, reset_after=False),
        ]
    )


BUILDERS = {
    build.__name__: build
    for build in (dense, convolutional, recurrent, nested, attention, shared_and_many, normalized)
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras3")
    found = {}
    for name, build in BUILDERS.items():
        model = build()
        model.compile("adam", "mse", metrics=["mae"])
        for suffix in ("keras", "h5"):
            path = folder / f"{name}.{suffix}"
            model.save(path)
            found[name, suffix] = (path, model)
    return found


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", BUILDERS)
def test_reading_agrees_with_keras(saved, name, suffix):
    path, model = saved[name, suffix]
    if (name, suffix) == ("attention", "h5"):
        # An .h5 file does not say where functions of keras.ops come from; Keras cannot load it.
        with pytest.raises(InvalidModel, match=r"save it as \.keras"):
            inspect_model(path, path.name)
        return
    info = inspect_model(path, path.name)
    assert info.format == suffix
    assert not info.legacy
    assert info.mends == ()
    assert info.parameters == model.count_params()
    counts = {layer.name: layer.count_params() for layer in model.layers}
    read = {layer.name: layer.parameters for layer in info.layers if layer.name in counts}
    assert read == counts
    assert [item.shape for item in info.inputs] == [tuple(t.shape) for t in model.inputs]
    for item, tensor in zip(info.outputs, keras.tree.flatten(model.outputs), strict=True):
        assert item.shape in (tuple(tensor.shape), None)
    if name not in ("attention",):
        assert all(item.shape is not None for item in info.outputs)


def test_training_is_read_by_name(tmp_path):
    model = dense()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(), loss, metrics=["accuracy", keras.metrics.Precision()])
    model.save(tmp_path / "m.keras")
    training = inspect_model(tmp_path / "m.keras", "m.keras").training
    assert training is not None
    assert training.loss == "sparse_categorical_crossentropy"
    assert training.loss_from_logits is True
    assert training.optimizer.lower() == "sgd"
    assert training.metrics == ("accuracy", "precision")


def test_layer_details(saved):
    info = inspect_model(saved["dense", "keras"][0], "m.keras")
    assert [layer.class_name for layer in info.layers][:2] == ["InputLayer", "Dense"]
    assert info.layers[1].settings["units"] == 4
    assert info.output_activations == ("softmax",)
    assert info.inputs[0].dtype == "float32"


def test_hdf5_under_a_keras_name_is_read(saved, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(saved["dense", "h5"][0].read_bytes())
    assert inspect_model(path, "m.keras").format == "h5"


def test_compressed_archive_is_read(saved, tmp_path):
    path, model = saved["dense", "keras"]
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert inspect_model(tmp_path / "m.keras", "m.keras").parameters == model.count_params()
    assert [item.name for item in tmp_path.iterdir()] == ["m.keras"]


def test_known_layers_are_those_of_keras():
    public = {
        name
        for name in dir(layers)
        if isinstance(getattr(layers, name), type)
        and issubclass(getattr(layers, name), layers.Layer)
    }
    abstract = {"Layer", "Wrapper"}
    models = {"Functional", "Model", "Sequential"}
    assert public - abstract - set(REASONS) == KNOWN_LAYERS - models


def test_names_in_python_are_those_of_keras():
    exported = {name: getattr(layers, name).__name__ for name in KNOWN_LAYERS & set(dir(layers))}
    renamed = {name: python for name, python in exported.items() if not hasattr(layers, python)}
    assert renamed == PYTHON_NAMES


def test_activations_are_those_of_keras():
    private = {"get", "serialize", "deserialize"}
    public = {name for name in dir(keras.activations) if not name.startswith("_")}
    assert public - private == ACTIVATIONS


def test_importing_loads_neither_keras_nor_tensorflow():
    among = {"keras", "tensorflow", "tf_keras", "jax"}
    assert loaded("import app.intake.models", among) == set()


def rewritten(path, target, change):
    """A copy of an archive whose config went through `change`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                content = json.dumps(change(config) or config).encode()
            new.writestr(name, content)
    return target


def first_dense(config):
    return next(x for x in config["config"]["layers"] if x["class_name"] == "Dense")


def set_class(**values):
    return lambda config: first_dense(config).update(values)


def set_config(**values):
    return lambda config: first_dense(config)["config"].update(values)


INT8 = {
    "module": "keras",
    "class_name": "QuantizedDTypePolicy",
    "config": {"mode": "int8", "source_name": "float32"},
    "registered_name": None,
}
LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAA"}}
FOREIGN = {"module": "mine", "class_name": "function", "config": "act", "registered_name": "act"}
UNREGISTERED = {"module": "builtins", "class_name": "function", "config": "my_act"}
MAPPED = {
    "module": "keras.dtype_policies",
    "class_name": "DTypePolicyMap",
    "config": {"default_policy": None, "policy_map": {"dense/query": INT8}},
    "registered_name": None,
}
REFUSED_CONFIGS = {
    "lambda layer": (set_class(class_name="Lambda"), "Python code"),
    "saved model layer": (set_class(class_name="TFSMLayer"), "SavedModel"),
    "custom module": (set_class(module="mine.layers", class_name="Mine"), "not from Keras"),
    "registered": (set_class(registered_name="Mine>Dense"), "not from Keras"),
    "unknown": (set_class(class_name="Dancer"), "no layer 'Dancer'"),
    "lambda activation": (set_config(activation=LAMBDA), "Python lambda"),
    "custom activation": (set_config(activation=FOREIGN), "'act'"),
    "unregistered activation": (set_config(activation=UNREGISTERED), "'my_act'"),
    "code": (set_config(activation={"value": ["4wEAAAAA", None, None]}), "Python lambda"),
    "int8": (set_config(dtype=INT8), "prune before quantising"),
    "int8 by name": (set_config(dtype="int8_from_float32"), "already quantised"),
    "int8 inside": (set_config(dtype=MAPPED), "already quantised"),
    "quantisation": (set_config(quantization_config={"class_name": "GPTQConfig"}), "GPTQConfig"),
    "not KerasHub": (set_class(registered_name="keras_hub>Dense", module="mine.x"), "not from"),
    "nor with its name": (set_class(registered_name="keras_hub>Other", module=None), "not from"),
    "lora": (set_config(lora_rank=4), "LoRA"),
    "other weights": (set_config(units=7), "needs variables of shapes"),
    "subclass": (lambda c: c.update(class_name="Mine"), "subclassed"),
    "no graph": (lambda c: c["config"].pop("layers") and None, "lists no layers"),
    "twins": (lambda c: c["config"]["layers"][1]["config"].update(name="dropout"), "unique"),
    "not an object": (lambda c: [1, 2], "an object was expected"),
}


@pytest.mark.parametrize("case", REFUSED_CONFIGS)
def test_config_is_refused_with_its_reason(saved, tmp_path, case):
    change, words = REFUSED_CONFIGS[case]

    def twins_need_the_same_name(config):
        for layer in config["config"]["layers"] if isinstance(config, dict) else []:
            if layer["class_name"] == "Dropout":
                layer["config"]["name"] = "dropout"
        return change(config)

    path = rewritten(saved["dense", "keras"][0], tmp_path / "m.keras", twins_need_the_same_name)
    with pytest.raises(InvalidModel, match=words):
        inspect_model(path, "m.keras")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_non_finite_weights_name_their_variable(tmp_path, suffix, value):
    model = dense()
    model.layers[0].bias.assign([0.0, value, 0.0, 0.0])
    model.save(tmp_path / f"m.{suffix}")
    with pytest.raises(InvalidModel, match=r"variable .*(vars/1|bias) holds NaN"):
        inspect_model(tmp_path / f"m.{suffix}", "m")


def test_weights_only_files_are_refused(tmp_path):
    dense().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(InvalidModel, match="weights only"):
        inspect_model(tmp_path / "m.weights.h5", "m.weights.h5")


def test_unbuilt_sequential_is_refused(tmp_path):
    keras.Sequential([layers.Dense(2)]).save(tmp_path / "m.keras")
    with pytest.raises(InvalidModel, match="shape its input"):
        inspect_model(tmp_path / "m.keras", "m.keras")


def test_soft_links_are_refused(saved, tmp_path):
    path = tmp_path / "m.h5"
    path.write_bytes(saved["dense", "h5"][0].read_bytes())
    with h5py.File(path, "a") as file:
        file["model_weights/extra"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InvalidModel, match="ExternalLink"):
        inspect_model(path, "m.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08tflite"])
def test_other_content_is_refused(tmp_path, content):
    path = Path(tmp_path / "m.keras")
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"neither a \.keras archive nor an HDF5 file"):
        inspect_model(path, "m.keras")
