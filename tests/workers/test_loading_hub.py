"""Models of KerasHub are loaded where it is installed, and refused in words where it is not."""

import sys

import keras
import keras_hub
import numpy as np
import pytest

from app.domain.errors import EngineRefusal, InvalidModel
from app.intake.models import inspect_model
from workers.loading import completed, load

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

TEXT = {
    "vocabulary_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 8,
}


def resnet():
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )


def mit():
    return keras_hub.models.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        hidden_dims=[8, 16],
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=(32, 32, 3),
    )


def classifier():
    return keras_hub.models.ImageClassifier(backbone=resnet(), num_classes=3, preprocessor=None)


def language_model():
    """Its embedding is tied to its output: one layer in two places."""
    backbone = keras_hub.models.GPT2Backbone(**TEXT)
    return keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)


def around():
    backbone = resnet()
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


MODELS = {
    "bert": lambda: keras_hub.models.BertBackbone(**TEXT),
    **{build.__name__: build for build in (mit, classifier, language_model, around)},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "m.keras"
    MODELS["bert"]().save(path)
    return path, inspect_model(path, "m.keras")


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_as_they_were(name, tmp_path):
    model = MODELS[name]()
    model.save(tmp_path / "m.keras")
    loaded = load(tmp_path / "m.keras", inspect_model(tmp_path / "m.keras", "m"), tmp_path)
    assert type(loaded) is type(keras.Model(model.input, model.output))
    assert len(loaded.layers) == len(model.layers)
    for got, wanted in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_inputs_and_outputs_are_completed_once_the_model_is_there(bert, tmp_path):
    path, info = bert
    full = completed(load(path, info, tmp_path), info)
    assert [(item.name, item.shape, item.dtype) for item in full.inputs] == [
        (name, (None, None), "int32") for name in ("padding_mask", "segment_ids", "token_ids")
    ]
    assert [item.shape for item in full.outputs] == [(None, 8), (None, None, 8)]
    assert full.layers == info.layers


def test_arrays_are_taken_as_of_any_other_model(bert, tmp_path):
    """KerasHub's own `predict` takes no lists; Keras warns of names where it gets a list."""
    path, info = bert
    tokens = np.ones((3, 8), "int32")
    loaded = load(path, info, tmp_path)
    assert [part.shape for part in loaded.predict([tokens] * 3, verbose=0).values()] == [
        (3, 8, 8),
        (3, 8),
    ]


def test_a_worker_without_it_says_so(bert, tmp_path, monkeypatch):
    path, info = bert
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # As where it is not installed.
    with pytest.raises(EngineRefusal, match="pip install keras-hub"):
        load(path, info, tmp_path)


def test_no_other_package_is_imported(bert, tmp_path):
    path, info = bert
    with pytest.raises(EngineRefusal, match="needs antigravity"):
        load(path, info.model_copy(update={"requires": ("antigravity",)}), tmp_path)


def test_layers_of_other_sizes_are_refused(bert, tmp_path):
    path, info = bert
    first = next(layer for layer in info.layers if layer.parameters)
    wrong = first.model_copy(update={"parameters": first.parameters + 1})
    layers = tuple(wrong if layer is first else layer for layer in info.layers)
    with pytest.raises(InvalidModel, match=first.name):
        load(path, info.model_copy(update={"layers": layers}), tmp_path)
