"""Models of KerasHub, told apart and read without KerasHub."""

import json
import zipfile

import keras
import keras_hub
import pytest

from app.domain.errors import InvalidModel
from app.intake.hub import is_data_class, is_hub
from app.intake.models import inspect_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def bert():
    return keras_hub.models.BertBackbone(
        vocabulary_size=64,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=16,
    )


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    model = bert()
    path = tmp_path_factory.mktemp("hub") / "bert.keras"
    model.save(path)
    return path, model


def rewritten(path, target, change):
    """A copy whose config went through `change`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target


def test_a_backbone_is_read_from_its_weights(backbone):
    path, model = backbone
    info = inspect_model(path, "bert.keras")
    assert info.requires == ("keras-hub",)
    assert not info.graph_known
    assert info.parameters == model.count_params()
    assert [item.name for item in info.inputs] == ["padding_mask", "segment_ids", "token_ids"]
    assert {item.shape for item in info.inputs} == {None}
    assert info.outputs == ()
    read = {layer.name: layer.parameters for layer in info.layers}
    stateful = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    assert stateful.items() <= read.items()
    classes = {layer.name: layer.class_name for layer in info.layers}
    assert classes["transformer_layer_0"] == "TransformerEncoder"
    assert classes["embeddings_layer_norm"] == "LayerNormalization"
    assert "transformer_layer_0/self_attention_layer/query" in info.inner_layers


def test_the_shape_of_images_is_known(tmp_path):
    model = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    model.save(tmp_path / "m.keras")
    assert inspect_model(tmp_path / "m.keras", "m").inputs[0].shape == (None, 16, 16, 3)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_layers_in_a_graph_of_ones_own_are_listed_as_usual(tmp_path, suffix):
    inputs = keras.Input((8, 16))
    act = keras.saving.get_registered_object("keras_hub>gelu_approximate")
    x = keras_hub.layers.TransformerEncoder(32, 2, activation=act)(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / f"m.{suffix}")
    info = inspect_model(tmp_path / f"m.{suffix}", "m")
    assert info.requires == ("keras-hub",)
    assert info.graph_known
    assert [layer.class_name for layer in info.layers] == [
        "InputLayer",
        "TransformerEncoder",
        "Dense",
    ]
    assert info.outputs[0].shape == (None, 8, 2)


def preprocessor(config):
    config["config"]["preprocessor"] = {
        "module": "keras_hub.src.models.bert.bert_tokenizer",
        "class_name": "BertTokenizer",
        "config": {"vocabulary": "/etc/passwd"},
        "registered_name": "keras_hub>BertTokenizer",
    }


def code(config):
    config["config"]["activation"] = {"class_name": "__lambda__", "config": {"value": "4wEAAA"}}


def quantised(config):
    policy = {"class_name": "Int4DTypePolicy", "config": {"mode": "int4/128"}}
    config["config"]["dtype"] = {
        "module": "keras.dtype_policies",
        "class_name": "DTypePolicyMap",
        "config": {"policy_map": {"token_embedding": policy}},
    }


REFUSED = {
    "preprocessor": (preprocessor, r"model\.preprocessor = None"),
    "code": (code, "Python lambda"),
    "quantised": (quantised, "prune before quantising"),
    "another package": (lambda c: c.update(module="mine.keras_hub"), "of class 'BertBackbone'"),
    "look-alike": (lambda c: c.update(module="keras_hubs.src"), "of class 'BertBackbone'"),
    "another name": (lambda c: c.update(class_name="os.system"), "of class 'os.system'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_graph_of_layers_is_refused(backbone, tmp_path, case):
    change, words = REFUSED[case]
    path = rewritten(backbone[0], tmp_path / "m.keras", change)
    with pytest.raises(InvalidModel, match=words):
        inspect_model(path, "m.keras")


NAMED = {"module": "keras_hub.src.layers", "registered_name": "keras_hub>A", "class_name": "A"}


def test_only_registered_names_of_the_package_count():
    assert is_hub(NAMED)
    assert is_hub({"class_name": "keras_hub>A", "config": {}})
    assert not is_hub(NAMED | {"registered_name": "mine>A"})
    assert not is_hub(NAMED | {"registered_name": None})
    assert not is_hub(NAMED | {"module": "keras.layers"})
    assert not is_hub(NAMED | {"registered_name": "keras_hub>A>A"})


def test_what_prepares_data_is_no_layer():
    entry = {"class_name": "ATokenizer", "registered_name": "keras_hub>ATokenizer"}
    assert is_data_class(NAMED | entry)
    assert not is_hub(NAMED | entry)
