"""Names of layers inside layers, as a spec's patterns write them."""

import keras
import pytest
from keras import layers

from app.intake.models import inspect_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def model():
    pixels = keras.Input((4,))
    head = keras.Model(pixels, layers.Dense(3, name="dense")(pixels), name="head")
    inputs = keras.Input((6, 4))
    x = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(4, name="each"), name="time")(x)
    x = layers.RNN([layers.GRUCell(4, name="a"), layers.LSTMCell(4, name="b")], name="rnn")(x)
    return keras.Model(inputs, layers.Dense(2, name="end")(head(x)))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_paths_are_those_of_keras(tmp_path, suffix):
    """Keras gives every variable the path of the layer that owns it."""
    saved = model()
    saved.save(tmp_path / f"m.{suffix}")
    info = inspect_model(tmp_path / f"m.{suffix}", "m")
    owners = {weight.path.rsplit("/", 1)[0] for weight in saved.weights}
    inside = {path for path in owners if "/" in path} | {"head/dense"}
    assert inside - set(info.inner_layers) == set()
    assert {"attention/query", "both/forward_lstm", "time/each"} <= set(info.inner_layers)
    assert not {layer.name for layer in info.layers} & set(info.inner_layers)
    assert {"end", "head", "head/dense"} <= set(info.layer_names)


def test_a_model_of_plain_layers_has_none(tmp_path):
    keras.Sequential([keras.Input((2,)), layers.Dense(2)]).save(tmp_path / "m.keras")
    assert inspect_model(tmp_path / "m.keras", "m").inner_layers == ()
