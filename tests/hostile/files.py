"""Files that mean harm, each built from a sound one, without Keras."""

import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from app.services.examples import DATASET_FILE, MODEL_FILE

Change = Callable[[dict[str, Any]], Any]
MIB = 2**20
SOUND = MODEL_FILE.read_bytes()
DATA = DATASET_FILE.read_bytes()
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def members(content: bytes = SOUND) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(*files: tuple[Any, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members, in order; names may be `ZipInfo`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for name, content in files:
            archive.writestr(name, content, packing)
    return target.getvalue()


def keras(config: Any = None, *more: tuple[Any, bytes], weights: bytes | None = None) -> bytes:
    """The sound archive with another config, other weights, or more members."""
    files = members()
    if config is not None:
        files[CONFIG] = config if isinstance(config, bytes) else json.dumps(config).encode()
    if weights is not None:
        files[WEIGHTS] = weights
    return zipped(*files.items(), *more)


def config() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(members()[CONFIG])
    return loaded


def dense(value: dict[str, Any]) -> dict[str, Any]:
    """The first Dense of the sound model."""
    found: dict[str, Any] = next(x for x in value["config"]["layers"] if x["class_name"] == "Dense")
    return found


def changed(change: Change) -> bytes:
    value = config()
    change(value)
    return keras(value)


def layer(module: str | None, class_name: str, **settings: Any) -> dict[str, Any]:
    entry = {
        "module": module,
        "class_name": class_name,
        "config": {"name": "evil", **settings},
        "registered_name": None,
    }
    if module is None:
        del entry["module"]
    return entry


def with_layer(entry: dict[str, Any]) -> bytes:
    """A Sequential of an input, this layer, and the sound model's Dense layers."""
    value = config()
    dense_layers = [x for x in value["config"]["layers"] if x["class_name"] == "Dense"]
    for item in dense_layers:
        item.pop("inbound_nodes", None)
    source = layer("keras.layers", "InputLayer", batch_shape=[None, 64], dtype="float32")
    source["config"]["name"] = "pixels"
    made = layer("keras", "Sequential", layers=[source, entry, *dense_layers])
    made["config"]["name"] = "m"
    return keras(made)


LAMBDA_CODE = {"class_name": "__lambda__", "config": {"value": "4wEAAAAAAAAA"}}


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def calling(module: str, name: str, **arguments: Any) -> dict[str, Any]:
    """A Lambda that calls something Keras exports: no code of its own, so safe mode lets it."""
    return layer("keras.layers", "Lambda", function=function(module, name), arguments=arguments)


def lookup(**settings: Any) -> dict[str, Any]:
    return layer("keras.layers", "StringLookup", **settings)


def nested(entry: dict[str, Any]) -> dict[str, Any]:
    source = layer("keras.layers", "InputLayer", batch_shape=[None, 64], dtype="float32")
    source["config"]["name"] = "inner_pixels"
    return layer("keras", "Sequential", layers=[source, entry])


# --- HDF5 --------------------------------------------------------------------------------------
def hdf5(fill: Callable[[Any], Any], model: dict[str, Any] | None = None) -> bytes:
    """An `.h5` model of one Dense layer, and what `fill` adds to the open file."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        file.attrs["model_config"] = json.dumps(model or one_dense())
        file.attrs["keras_version"] = "3.15.1"
        file.attrs["backend"] = "tensorflow"
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([b"dense"])
        group = weights.create_group("dense")
        group.attrs["weight_names"] = np.array([b"dense/kernel", b"dense/bias"])
        group["dense/kernel"] = np.ones((3, 4), "f4")
        group["dense/bias"] = np.zeros(4, "f4")
        fill(file)
    return target.getvalue()


def one_dense(**settings: Any) -> dict[str, Any]:
    source = layer("keras.layers", "InputLayer", batch_shape=[None, 3], dtype="float32")
    source["config"]["name"] = "x"
    policy = layer("keras", "DTypePolicy")
    policy["config"] = {"name": "float32"}
    made = layer("keras.layers", "Dense", **{"units": 4, "dtype": policy} | settings)
    made["config"]["name"] = "dense"
    model = layer("keras", "Sequential", layers=[source, made])
    model["config"]["name"] = "m"
    return model


def weights(fill: Callable[[Any], Any]) -> bytes:
    """The sound archive's weights, after `fill` has been at them."""
    target = io.BytesIO(members()[WEIGHTS])
    with h5py.File(target, "r+") as file:
        fill(file)
    return target.getvalue()


def instead(path: str, **made: Any) -> Callable[[Any], None]:
    """Replace one dataset by another of the same name."""

    def fill(file: Any) -> None:
        del file[path]
        file.create_dataset(path, **made)

    return fill


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4), "f4")
    del file["model_weights/dense/dense/kernel"]
    file.create_virtual_dataset("model_weights/dense/dense/kernel", layout)


def cycle(file: Any) -> None:
    file["model_weights/dense/again"] = file["model_weights"]


def sub_floor(file: Any) -> None:
    """Many data sets, each below any floor, none of them stored."""
    for index in range(60):
        file.create_dataset(f"z{index}", (2**18 - 1,), "f4", chunks=(1024,))


# --- data sets ---------------------------------------------------------------------------------
def npy(header: str, body: bytes = b"") -> bytes:
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def npy_of(shape: tuple[int, ...], descr: str = "<f4", body: bytes = b"") -> bytes:
    return npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}", body)


def npz_pickle() -> bytes:
    pickled = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
    return zipped(("x.npy", npy_of((1,), "|O", pickled)), ("y.npy", npy_of((1,), "<i4", b"abcd")))


def npz_deflated() -> bytes:
    zeros = bytes(400 * MIB)
    body = npy_of((len(zeros) // 4, 1), "<f4") + zeros
    return zipped(("x.npy", body), ("y.npy", npy_of((1,))), packing=zipfile.ZIP_DEFLATED)


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def parquet(rows: int) -> bytes:
    """One value in every row: next to nothing in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    one = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, "i4")), pa.array([1.0], pa.float64())
    )
    table = pa.table({"a": one, "b": one})
    pq.write_table(table, target, compression="zstd", row_group_size=rows)
    return target.getvalue()
