"""The canonical copy of a model: written anew from what was checked; only it is ever loaded.

Nothing of the upload's container survives: one config without `build_config` and
`compile_config`, and plain numbers in contiguous datasets. What two parsers could read in two
ways is written in one. Equal uploads give equal bytes.
"""

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from app.domain.errors import InvalidModel
from app.domain.model import ModelInfo
from app.intake import archive, hdf5
from app.intake.archive import KerasArchive
from app.intake.config import Config, parse_json, without_building
from app.intake.legacy import mend_file
from app.intake.legacy.mend import TARGET_VERSION
from app.intake.magic import SAVE_ADVICE

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can name: copies do not tell when they were made."""
_NAME_LISTS = re.compile(r"(layer_names|weight_names)\d*")
_OPTIMIZER = frozenset({"optimizer", "optimizer_weights"})


def write_canonical(source: Path, destination: Path, info: ModelInfo) -> None:
    """Write a checked model anew, brought to Keras 3 where it is of Keras 2.

    Args:
        source: the upload, which `app.intake.models.inspect_model` has accepted.
        destination: the copy, in the format of the upload.
        info: what the reading said.

    Raises:
        InvalidModel: it cannot be mended exactly, or not be copied through.
    """
    try:
        _write(source, destination, info)
    except (InvalidModel, MemoryError):
        raise
    except Exception as error:
        # What no check reads is read here for the first time; HDF5 raises whatever it likes.
        raise InvalidModel(
            f"The model cannot be copied through; the file is damaged ({type(error).__name__}: "
            f"{str(error)[:200]}). {SAVE_ADVICE}"
        ) from error


def _write(source: Path, destination: Path, info: ModelInfo) -> None:
    with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
        if info.legacy or info.mends:
            mended = Path(folder) / f"mended.{info.format}"
            mend_file(source, mended)
            source = mended
        if info.format == "h5":
            _write_hdf5(source, destination)
        else:
            _write_archive(source, destination, Path(folder))


def _write_archive(source: Path, destination: Path, folder: Path) -> None:
    with source.open("rb") as file:
        opened = KerasArchive(file)
        config = without_building(parse_json(opened.config(), archive.CONFIG))
        version = parse_json(opened.metadata(), archive.METADATA).get("keras_version")
        weights = folder / archive.WEIGHTS
        with (
            opened.weights(folder) as stored,
            hdf5.opened(stored) as old,
            h5py.File(weights, "w") as new,
        ):
            _copy_group(old, new)
        with zipfile.ZipFile(destination, "w") as target:
            _add(target, archive.METADATA, _json({"keras_version": _version(version)}))
            _add(target, archive.CONFIG, _json(config))
            with weights.open("rb") as content:
                _add(target, archive.WEIGHTS, content)
            for name in sorted(opened.assets()):
                with opened.member(name) as content:
                    _add(target, name, content)


def _version(found: Any) -> str:
    return found if isinstance(found, str) and len(found) < 40 else TARGET_VERSION


def _json(value: Config) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _add(target: zipfile.ZipFile, name: str, content: bytes | IO[bytes]) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    with target.open(info, "w", force_zip64=True) as sink:
        if isinstance(content, bytes):
            sink.write(content)
        else:
            shutil.copyfileobj(content, sink, 2**20)


def _write_hdf5(source: Path, destination: Path) -> None:
    with hdf5.opened(source) as old, h5py.File(destination, "w") as new:
        text = hdf5.text_attribute(old, "model_config") or ""
        config = without_building(parse_json(text, "model_config"))
        weights = new.create_group("model_weights")
        _copy_group(old.get("model_weights", old), weights)
        version = _version(hdf5.text_attribute(old, "keras_version"))
        new.attrs["model_config"] = _json(config).decode()
        for group in (new, weights):
            group.attrs["keras_version"] = version
            group.attrs["backend"] = "tensorflow"


def _copy_group(old: Any, new: Any) -> None:
    """Groups, numbers and the few attributes that Keras reads; never the optimizer's state."""
    for name in old:
        child = old[name]
        if isinstance(child, h5py.Dataset):
            _copy_numbers(child, new, name)
        elif isinstance(child, h5py.Group) and name not in _OPTIMIZER:
            _copy_group(child, new.create_group(name))
    for key in old.attrs:
        if key == "name" and (text := hdf5.text_attribute(old, key)):
            new.attrs[key] = text
        elif _NAME_LISTS.fullmatch(key):
            names = [name.encode() for name in hdf5.names_attribute(old, key)]
            new.attrs[key] = np.array(names) if names else np.array([], "S1")


def _copy_numbers(old: Any, new: Any, name: str) -> None:
    copy = new.create_dataset(name, old.shape, old.dtype)
    for selection in hdf5.blocks(old.shape):
        copy[selection] = old[selection]
    if old.dtype.kind == "V":
        copy.attrs["dtype"] = "bfloat16"
