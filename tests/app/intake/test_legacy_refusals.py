"""What of Keras 2 cannot be brought to Keras 3 exactly is refused, by layer and reason."""

import pytest

from app.domain.errors import InvalidModel
from app.intake.legacy import plan_mends

HARD = "hard_sigmoid"


def layer(class_name, **config):
    return {"class_name": class_name, "config": {"name": "culprit", **config}}


def sequential(*items):
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 4, 3]}}
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *items]}}


WRAPPED = {"class_name": "Activation", "config": {"name": "culprit", "activation": HARD}}
REFUSED = {
    "time major": (layer("LSTM", units=2, time_major=True), "time_major=True"),
    "hard cell state": (layer("LSTM", units=2, activation=HARD), "cell state"),
    "wrapped activation": (layer("TimeDistributed", layer=WRAPPED), "no weights to scale"),
    "cudnn lstm": (layer("CuDNNLSTM", units=2), "CuDNNLSTM"),
    "cudnn gru": (layer("CuDNNGRU", units=2), "CuDNNGRU"),
    "lambda": (layer("Lambda", function="x"), "Python code"),
    "operation": (layer("TFOpLambda", function="math.cumsum"), "raw TensorFlow"),
    "local": (layer("LocallyConnected1D", filters=2), "locally connected"),
    "addon": (layer("Addons>GELU"), "no layer 'Addons>GELU'"),
    "activation of one's own": (layer("Dense", units=2, activation="swoosh"), "'swoosh'"),
    "layer as activation": (
        layer("Dense", units=2, activation={"class_name": "LeakyReLU", "config": {}}),
        "a layer of its own",
    ),
    "two axes": (layer("BatchNormalization", axis=[1, 2]), "one axis"),
    "virtual batches": (layer("BatchNormalization", virtual_batch_size=4), "virtual batches"),
    "renormalisation": (layer("BatchNormalization", renorm=True), "renormalisation"),
    "dynamic": (layer("Dense", units=2, dynamic=True), "Python code"),
    "interpolation": (layer("Resizing", interpolation="gaussian"), "interpolation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_mended_is_refused_by_name(case):
    entry, words = REFUSED[case]
    with pytest.raises(InvalidModel, match=words) as caught:
        plan_mends(sequential(entry))
    assert "culprit" in caught.value.detail


def masked(first, second):
    """Two embeddings, added."""

    def embedding(name, mask):
        return {
            **layer("Embedding", input_dim=5, output_dim=2, mask_zero=mask),
            "name": name,
            "inbound_nodes": [[["x", 0, 0, {}]]],
        } | {"config": {"name": name, "input_dim": 5, "output_dim": 2, "mask_zero": mask}}

    start = {
        "class_name": "InputLayer",
        "name": "x",
        "inbound_nodes": [],
        "config": {"name": "x", "batch_input_shape": [None, 4]},
    }
    add = {
        "class_name": "Add",
        "name": "sum",
        "config": {"name": "sum"},
        "inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]],
    }
    layers = [start, embedding("a", first), embedding("b", second), add]
    return {
        "class_name": "Model",
        "config": {
            "name": "m",
            "layers": layers,
            "input_layers": [["x", 0, 0]],
            "output_layers": [["sum", 0, 0]],
        },
    }


def test_merging_different_masks_is_refused():
    with pytest.raises(InvalidModel, match=r"'sum'.*different masks"):
        plan_mends(masked(True, False))
    plan_mends(masked(False, False))
