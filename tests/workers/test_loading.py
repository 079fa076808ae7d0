"""Loading for a job: the right suffix, mended, and held against the static reading."""

import keras
import numpy as np
import pytest

from app.domain.errors import EngineRefusal, InvalidModel
from app.intake.models import inspect_model
from workers.loading import load

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def model():
    inputs = keras.Input((6, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True))(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(3))(x)
    x = keras.layers.Attention()([x, x])
    return keras.Model(inputs, keras.layers.LayerNormalization(axis=[1, 2])(x))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("stored", ["blob", "blob.keras", "blob.h5"])
def test_the_stored_name_does_not_matter(model, tmp_path, suffix, stored):
    model.save(tmp_path / f"m.{suffix}")
    path = (tmp_path / f"m.{suffix}").rename(tmp_path / stored)
    (tmp_path / "scratch").mkdir()
    loaded = load(path, inspect_model(path, "m"), tmp_path / "scratch")
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6, atol=1e-6)
    assert not loaded.compiled


def test_a_legacy_model_is_mended(tmp_path):
    import tf_keras

    layers = tf_keras.layers
    old = tf_keras.Sequential(
        [
            layers.GRU(4, recurrent_activation="hard_sigmoid", batch_input_shape=(None, 6, 3)),
            layers.Dense(2),
        ]
    )
    old.save(tmp_path / "m.h5")
    path = (tmp_path / "m.h5").rename(tmp_path / "blob")
    loaded = load(path, inspect_model(path, "m.h5"), tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    np.testing.assert_allclose(loaded(x), np.asarray(old(x)), rtol=1e-5, atol=1e-5)


def test_what_keras_refuses_becomes_a_sentence(model, tmp_path):
    model.save(tmp_path / "m.keras")
    info = inspect_model(tmp_path / "m.keras", "m")
    (tmp_path / "m.keras").write_bytes(b"gone")
    with pytest.raises(InvalidModel, match="cannot load the model"):
        load(tmp_path / "m.keras", info, tmp_path)


def test_another_count_of_parameters_is_refused(model, tmp_path):
    model.save(tmp_path / "m.keras")
    info = inspect_model(tmp_path / "m.keras", "m")
    with pytest.raises(InvalidModel, match="parameters"):
        load(tmp_path / "m.keras", info.model_copy(update={"parameters": 1}), tmp_path)


def test_another_order_of_layers_is_refused(model, tmp_path):
    model.save(tmp_path / "m.keras")
    info = inspect_model(tmp_path / "m.keras", "m")
    other = info.model_copy(update={"layers": info.layers[::-1]})
    with pytest.raises(InvalidModel, match="another order"):
        load(tmp_path / "m.keras", other, tmp_path)


def test_a_model_without_inputs_is_refused(model, tmp_path):
    keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    model.save(tmp_path / "m.keras")
    info = inspect_model(tmp_path / "m.keras", "m")
    with pytest.raises(EngineRefusal, match="no graph"):
        load(tmp_path / "unbuilt.keras", info, tmp_path)
