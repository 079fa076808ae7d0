"""Damaged and hostile model files: an `InvalidModel` or a valid reading, and nothing else."""

import json
import random
import zipfile

import h5py
import keras
import numpy as np
import pytest

from app.domain.errors import InvalidModel
from app.domain.model import ModelInfo
from app.intake import hdf5
from app.intake.models import inspect_model
from tests.hostile.mutations import swap

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


PARAMETERS = 3 * 4 + 4 + 4 * 2 + 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    return {suffix: (folder / f"m.{suffix}").read_bytes() for suffix in ("keras", "h5")}


def survives(path):
    """Whether a file reads as a model, and then as the sound one; else it must be refused."""
    try:
        info = inspect_model(path, path.name)
    except InvalidModel:
        return False
    assert info.parameters == PARAMETERS
    assert ModelInfo.model_validate_json(info.model_dump_json()) == info
    return True


def damaged(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_cut_short(files, tmp_path, suffix):
    content, chance = files[suffix], random.Random(1)
    for _ in range(60):
        cut = chance.randrange(len(content))
        assert not survives(damaged(tmp_path / "m", content[:cut]))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_flipped_bytes(files, tmp_path, suffix):
    content, chance = files[suffix], random.Random(2)
    read = 0
    for _ in range(200):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        read += survives(damaged(tmp_path / "m", bytes(flipped)))
    # A zip has check sums, HDF5 has none: there most bytes are weights, or nobody's.
    assert read < (10 if suffix == "keras" else 190)


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members:
            new.writestr(name, content)
    return path


CONFIG = ("config.json", "{}")
WEIGHTS = ("model.weights.h5", b"")
ARCHIVES = {
    "traversal": ([CONFIG, WEIGHTS, ("../../etc/cron.d/x", "")], "no part of a Keras model"),
    "assets traversal": ([CONFIG, WEIGHTS, ("assets/../../x", "")], "no part of a Keras model"),
    "absolute": ([CONFIG, WEIGHTS, ("/etc/passwd", "")], "no part of a Keras model"),
    "stranger": ([CONFIG, WEIGHTS, ("run.py", "")], "no part of a Keras model"),
    "saved model": ([("m/saved_model.pb", "")], "SavedModel"),
    "other zip": ([("photo.jpg", "")], "not a Keras model"),
    "weights only": ([WEIGHTS], "layers are not known"),
    "config only": ([CONFIG], "nothing to prune"),
    "not JSON": ([("config.json", "{,"), WEIGHTS], "HDF5 file is damaged"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_are_no_models(tmp_path, case):
    members, words = ARCHIVES[case]
    with pytest.raises(InvalidModel, match=words):
        inspect_model(archive(tmp_path / "m.keras", members), "m.keras")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members_are_refused(tmp_path):
    path = archive(tmp_path / "m.keras", [CONFIG, CONFIG, WEIGHTS])
    with pytest.raises(InvalidModel, match="twice"):
        inspect_model(path, "m.keras")


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = ("model.weights.h5", bytes(64 * 2**20))
    path = archive(tmp_path / "m.keras", [CONFIG, bomb], zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidModel, match="compresses like that"):
        inspect_model(path, "m.keras")


def with_config(files, path, text):
    path.write_bytes(files["keras"])
    with zipfile.ZipFile(path) as old:
        members = [(name, old.read(name)) for name in old.namelist() if name != "config.json"]
    return archive(path, [*members, ("config.json", text)])


TEXTS = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "rather deep": '{"a":' * 500 + "1" + "}" * 500,
    "nan": '{"a": NaN}',
    "cut": '{"a": ',
    "binary": b"\xff\xfe\x00",
    "list": "[]",
    "empty": "{}",
    "number config": json.dumps({"class_name": "Sequential", "config": 3}),
    "number layers": json.dumps({"class_name": "Sequential", "config": {"layers": [3]}}),
}


@pytest.mark.parametrize("case", TEXTS)
def test_hostile_configs(files, tmp_path, case):
    with pytest.raises(InvalidModel):
        inspect_model(with_config(files, tmp_path / "m.keras", TEXTS[case]), "m.keras")


def test_values_of_a_config_swapped_for_nonsense(files, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(files["keras"])
    with zipfile.ZipFile(path) as old:
        text = old.read("config.json").decode()
    chance, read = random.Random(3), 0
    for _ in range(150):
        config = json.loads(text)
        swap(config, chance)
        read += survives(with_config(files, path, json.dumps(config)))
    assert 0 < read < 140


def test_shape_bomb_is_refused(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("bomb", (2**30, 4), "f4", chunks=(1024, 4), compression="gzip")
    with pytest.raises(InvalidModel, match="declares"):
        inspect_model(tmp_path / "m.h5", "m.h5")


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 1, 9), (1, 40), (4, 3, 0)])
def test_blocks_cover_an_array_once(shape):
    seen = np.zeros(shape, int)
    for selection in hdf5.blocks(shape, 4):
        assert seen[selection].size <= 4
        seen[selection] += 1
    assert (seen == 1).all()


def test_bfloat16_is_checked(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        good = file.create_dataset("good", data=np.array([0x3F80, 0], np.uint16).view("V2"))
        bad = file.create_dataset("bad", data=np.array([0x3F80, 0x7F80], np.uint16).view("V2"))
        assert hdf5.is_finite(good)
        assert not hdf5.is_finite(bad)


def test_models_nested_in_one_another_take_no_exponential_time(tmp_path):
    """Each level calls the next one twice."""
    x = inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    for _ in range(12):
        inputs = keras.Input((2,))
        model = keras.Model(inputs, model(model(inputs)))
    model.save(tmp_path / "m.keras")
    assert inspect_model(tmp_path / "m.keras", "m").outputs[0].shape == (None, 2)
