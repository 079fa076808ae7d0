"""Files that mean harm, over HTTP: each is refused in words, fast, small, and nothing suffers."""

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from structlog.testing import capture_logs

from app.adapters.database import ModelRow
from tests.app.api.conftest import Api, check_problem
from tests.hostile import files
from tests.hostile.files import MIB, calling, changed, dense, keras, layer, with_layer

SECONDS = 2
EXTRA_BYTES = 256 * MIB


class Case(NamedTuple):
    """A file, and words of its refusal: what came, and what to do."""

    name: str
    build: Callable[[], bytes]
    words: tuple[str, ...]


def has(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: dense(config).update(values)


def sets(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: dense(config)["config"].update(values)


def deep(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def flood(count: int) -> dict[str, Any]:
    one = [layer("keras.layers", "ReLU") for _ in range(count)]
    for index, entry in enumerate(one):
        entry["config"] = {"name": f"r{index}"}
    return files.nested(one[0]) | {"config": {"name": "flood", "layers": one}}


def polyglot() -> bytes:
    return files.zipped(("other.txt", b"MZ\x90 or a script")) + files.SOUND


def encrypted() -> bytes:
    content = bytearray(keras())
    at = content.rfind(b"PK\x01\x02")
    struct.pack_into("<H", content, at + 8, 1)
    return bytes(content)


def duplicate() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return keras(None, (files.CONFIG, b"{}"))


def deflated_config() -> bytes:
    config = b"[" + b"0," * 16 * MIB + b"0]"
    rest = [item for item in files.members().items() if item[0] != files.CONFIG]
    return files.zipped((files.CONFIG, config), *rest, packing=zipfile.ZIP_DEFLATED)


def zip_bomb() -> bytes:
    bomb = bytes(300 * MIB)
    rest = [item for item in files.members().items() if item[0] != files.WEIGHTS]
    return files.zipped((files.WEIGHTS, bomb), *rest, packing=zipfile.ZIP_DEFLATED)


def link(target: Any) -> Callable[[], bytes]:
    def fill(file: Any) -> None:
        file["model_weights/extra"] = target

    return lambda: files.hdf5(fill)


KERNEL = "model_weights/dense/dense/kernel"
LAMBDA = ("Lambda", "Replace it")
NAMES_NONE = ("is none of", "Replace it")
OTHERS = ("cannot be used: it names", "Replace it")
MODELS = [
    Case("python lambda", lambda: with_layer(layer("keras.layers", "Lambda", function={})), LAMBDA),
    Case(
        "python lambda in h5",
        lambda: files.hdf5(lambda file: None, files.one_dense(activation=files.LAMBDA_CODE)),
        ("Python lambda", "Replace it"),
    ),
    Case(
        "python lambda nested",
        lambda: with_layer(files.nested(layer("keras.layers", "Lambda", function={}))),
        LAMBDA,
    ),
    Case("lambda in a setting", lambda: changed(sets(activation=files.LAMBDA_CODE)), ("lambda",)),
    Case(
        "lambda to TFSMLayer",
        lambda: with_layer(calling("keras.layers", "TFSMLayer", filepath="/tmp/x")),
        LAMBDA,
    ),
    Case("lambda to a setter", lambda: with_layer(calling("keras.config", "set_floatx")), LAMBDA),
    Case(
        "setter as an activation",
        lambda: changed(sets(activation=files.function("keras.config", "set_floatx"))),
        ("'set_floatx'", "Replace it"),
    ),
    Case(
        "file editor as an initializer",
        lambda: changed(
            sets(
                kernel_initializer=layer("keras.saving", "KerasFileEditor", filepath="/etc/passwd")
            )
        ),
        ("'KerasFileEditor'", *OTHERS),
    ),
    Case(
        "downloader in a wrapper",
        lambda: with_layer(
            layer("keras.layers", "TimeDistributed", layer=layer("keras.utils", "get_file"))
        ),
        ("get_file",),
    ),
    Case(
        "map with a function",
        lambda: with_layer(layer("keras.src.ops.core", "Map", f=files.function("os", "system"))),
        ("cannot be used",),
    ),
    Case("foreign module", lambda: changed(has(module="os", class_name="system")), ("'os'",)),
    Case("foreign module of Keras", lambda: changed(has(module="keras.src.utils")), (*OTHERS,)),
    Case(
        "lookup with a path",
        lambda: with_layer(files.lookup(vocabulary="/etc/passwd")),
        ("names a file, '/etc/passwd'", "as a list"),
    ),
    Case(
        "callable class in h5",
        lambda: files.hdf5(
            lambda file: None,
            files.one_dense(kernel_initializer=layer(None, "deserialize")),
        ),
        ("'deserialize'", *OTHERS),
    ),
    Case(
        "registered custom object",
        lambda: changed(has(registered_name="mine>Dense")),
        ("not from Keras", "Rebuild"),
    ),
    Case(
        "registered name of another object",
        lambda: changed(has(registered_name="TFSMLayer")),
        (*OTHERS,),
    ),
    Case("unknown activation", lambda: changed(sets(activation="os.system")), NAMES_NONE),
    Case("unknown initializer", lambda: changed(sets(bias_initializer="eval")), NAMES_NONE),
    Case("unknown dtype", lambda: changed(sets(dtype="object")), ("its dtype is 'object'",)),
    Case("duplicate config", duplicate, ("twice",)),
    Case("prefix polyglot", polyglot, ("in front of its first member", "upload")),
    Case("tail polyglot", lambda: files.SOUND + b"<script>", ("end with its table",)),
    Case("encrypted", encrypted, ("encrypted", "upload")),
    Case("traversal", lambda: keras(None, ("../../x", b"")), ("no part of", "upload")),
    Case("traversal in assets", lambda: keras(None, ("assets/../../x", b"")), ("no part of",)),
    Case(
        "symlink member",
        lambda: keras(None, (files.symlink("assets/vocabulary.txt"), b"/etc/passwd")),
        ("symbolic link", "upload"),
    ),
    Case("zip bomb", zip_bomb, ("would unpack", "no trained model")),
    Case("config bomb", deflated_config, ("would unpack", "no trained model")),
    Case(
        "many members",
        lambda: keras(None, *((f"assets/{n}", b"") for n in range(5000))),
        ("5,003 members",),
    ),
    Case("deep JSON", lambda: keras(deep(100_000)), ("deeper than", "Save")),
    Case("many values", lambda: keras(b'{"a":[' + b"[]," * 3 * MIB + b"0]}"), ("values", "Save")),
    Case("huge integer", lambda: keras(b'{"a":' + b"9" * 5000 + b"}"), ("5,000 digits", "Save")),
    Case("NaN in JSON", lambda: keras(b'{"a": NaN}'), ("NaN", "Save")),
    Case("long key", lambda: keras({"k" * 10_000: 1}), ("2,000 characters", "Save")),
    Case("units bomb", lambda: changed(sets(units=2**31)), ("units", "at most", "Make it")),
    Case("units beyond the weights", lambda: changed(sets(units=10**6)), ("1000000",)),
    Case(
        "lying build_config",
        lambda: changed(has(build_config={"input_shape": [None, 2**31]})),
        ("build_config", "save the model again"),
    ),
    Case(
        "RepeatVector bomb",
        lambda: with_layer(layer("keras.layers", "RepeatVector", n=2**26)),
        ("numbers for each sample", "Make the layer"),
    ),
    Case(
        "input bomb",
        lambda: changed(
            lambda c: c["config"]["layers"][0]["config"].update(batch_shape=[None, 2**27, 64])
        ),
        ("numbers for each sample",),
    ),
    Case(
        "attention bomb",
        lambda: with_layer(layer("keras.layers", "MultiHeadAttention", num_heads=64, key_dim=9999)),
        ("holds 0 numbers",),
    ),
    Case("layer flood", lambda: with_layer(flood(3000)), ("at most 2,500 layers", "Join")),
    Case("external link", link(h5py.ExternalLink("/etc/passwd", "/")), ("ExternalLink",)),
    Case("soft link", link(h5py.SoftLink("/model_weights")), ("SoftLink",)),
    Case(
        "external data set",
        lambda: files.hdf5(
            files.instead(KERNEL, shape=(3, 4), dtype="f4", external=[("/etc/passwd", 0, 48)])
        ),
        ("another file",),
    ),
    Case("virtual data set", lambda: files.hdf5(files.virtual), ("another file",)),
    Case("sub-floor bomb", lambda: files.hdf5(files.sub_floor), ("declares", "stores")),
    Case("cycle", lambda: files.hdf5(files.cycle), ("in two places", "Save")),
    Case(
        "chunk bomb",
        lambda: files.hdf5(
            files.instead(KERNEL, shape=(2**12, 2**15), dtype="f4", chunks=(2**12, 2**15))
        ),
        ("chunks of", "Save"),
    ),
    Case(
        "text weights",
        lambda: files.hdf5(files.instead(KERNEL, data=np.array([b"abc"] * 3))),
        ("expected floats", "Save"),
    ),
    Case(
        "compound weights",
        lambda: files.hdf5(files.instead(KERNEL, data=np.zeros(3, [("a", "f4"), ("b", "i4")]))),
        ("expected floats", "Save"),
    ),
    Case(
        "long double weights",
        lambda: files.hdf5(files.instead(KERNEL, data=np.ones((3, 4), np.longdouble))),
        ("expected floats", "Save"),
    ),
    Case(
        "NaN weights",
        lambda: files.hdf5(files.instead(KERNEL, data=np.full((3, 4), np.nan, "f4"))),
        ("NaN or infinity", "Upload"),
    ),
    Case(
        "shape mismatch",
        lambda: files.hdf5(files.instead(KERNEL, data=np.ones((4, 3), "f4"))),
        ("needs variables of shapes", "[4, 3]"),
    ),
    Case("keras cut short", lambda: files.SOUND[:-500], ("cut short", "again")),
    Case("h5 cut short", lambda: files.hdf5(lambda file: None)[:-3000], ("cut short", "again")),
    Case("keras cut to a head", lambda: files.SOUND[:4], ("cut short", "again")),
]


def rows(header: str, row: str, count: int) -> Callable[[], bytes]:
    return lambda: (header + row * count).encode()


def images(*more: tuple[Any, bytes]) -> Callable[[], bytes]:
    sound = files.png(2, 2)
    return lambda: files.zipped(("a/1.png", sound), ("b/1.png", sound), *more)


DATASETS = [
    Case("npz pickle.npz", files.npz_pickle, ("Python objects are never read", "convert")),
    Case(
        "npz bomb, declared.npz",
        lambda: files.zipped(("x.npy", files.npy_of((2**40, 64))), ("y.npy", files.npy_of((1,)))),
        ("declares shape", "again"),
    ),
    Case("npz bomb, deflated.npz", files.npz_deflated, ("times its size", "savez")),
    Case("npz cut short.npz", lambda: files.DATA[:-700], ("cut off", "again")),
    Case(
        "png bomb.zip",
        images(("c/1.png", files.png(60_000, 60_000))),
        ("c/1.png",),
    ),
    Case("png cut short.zip", images(("c/1.png", files.png(2, 2)[:20])), ("c/1.png", "Replace")),
    Case("traversal.zip", images(("../../a/2.png", files.png(2, 2))), ("outside", "relative")),
    Case("symlink.zip", images((files.symlink("a/2.png"), b"/etc/passwd")), ("symbolic link",)),
    Case("zip in front.zip", lambda: b"PK\x03\x04" + images()(), ("in front",)),
    Case("wide.csv", lambda: b",".join(b"c%d" % n for n in range(20_000)), ("columns", "npz")),
    Case("one line.csv", lambda: b"x" * 8 * MIB, ("first line", "npz")),
    Case("open quote.csv", rows('a,b\n1,"', "x" * 1023 + "\n", 20_000), ("cannot be read",)),
    Case("bomb.parquet", lambda: files.parquet(40_000_000), ("times its size", "sample")),
    Case("cut.parquet", lambda: files.parquet(1000)[:-8], ("cannot be read", "again")),
]


def send(api: Api, route: str, name: str, content: bytes) -> dict[str, Any]:
    options = {"options": json.dumps({"target": "b"})} if "." in name and "zip" not in name else {}
    options = {} if name.endswith(".npz") or route == "/v1/models" else options
    with capture_logs() as logs:
        answer = api.post(route, files={"file": (name, content)}, data=options)
    assert answer.status_code == 422, answer.text
    readings = [line for line in logs if line["event"] == "upload_read"]
    for reading in readings:
        # The clock of the wall also counts what else the machine does.
        assert reading["cpu_seconds"] < SECONDS
        assert reading["peak_bytes"] < EXTRA_BYTES
        assert reading["status"] == 0
    return check_problem(answer)


@pytest.fixture(scope="module")
def kept(api: Api) -> tuple[dict[str, Any], dict[str, Any]]:
    """What honest users had uploaded before."""
    return api.model(), api.dataset()


def check_unharmed(api: Api, kept: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert api.get("/healthz").status_code == 200
    model, data = kept
    assert [item["id"] for item in api.get("/v1/models").json()["items"]] == [model["id"]]
    assert [item["id"] for item in api.get("/v1/datasets").json()["items"]] == [data["id"]]
    assert not list((api.context.store.root / "tmp").iterdir())


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_a_hostile_model(api: Api, kept: Any, case: Case) -> None:
    problem = send(api, "/v1/models", "model.keras", case.build())
    assert problem["type"] == "/problems/invalid-model"
    for words in case.words:
        assert words in problem["detail"]
    check_unharmed(api, kept)


@pytest.mark.parametrize("case", DATASETS, ids=lambda case: case.name)
def test_a_hostile_data_set(api: Api, kept: Any, case: Case) -> None:
    problem = send(api, "/v1/datasets", case.name, case.build())
    assert problem["type"] == "/problems/invalid-dataset"
    for words in case.words:
        assert words in problem["detail"]
    check_unharmed(api, kept)


def test_an_honest_upload_goes_on_beside_a_hostile_one(api: Api) -> None:
    began = time.monotonic()
    problem = send(api, "/v1/models", "m.keras", zip_bomb())
    assert problem["fault"] == "client"
    model = api.model()
    assert api.delete(f"/v1/models/{model['id']}").status_code == 204
    assert time.monotonic() - began < 60


def test_what_is_kept_is_written_anew(api: Api) -> None:
    """The worker fetches the canonical copy: no comment, no compile config, no build config."""
    model = api.model()
    with api.context.database.read() as session:
        row = session.get(ModelRow, model["id"])
        assert row is not None
        stored = (api.context.store.root / row.key).read_bytes()
    assert stored != files.SOUND
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        assert set(archive.namelist()) == {files.CONFIG, files.METADATA, files.WEIGHTS}
        text = archive.read(files.CONFIG)
    assert b"compile_config" in files.members()[files.CONFIG]
    assert b"compile_config" not in text
    assert b"build_config" not in text
    api.delete(f"/v1/models/{model['id']}")
