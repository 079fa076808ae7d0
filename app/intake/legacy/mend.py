"""Files of Keras 2, brought to Keras 3 so that the model computes what it computed before.

`convert` translates the config and says what it changed; `mend_file` writes a file that stock
Keras 3.15 loads right. What cannot be carried over exactly is refused.
"""

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from app.domain.errors import InvalidModel
from app.domain.model import Mend
from app.intake import archive, hdf5
from app.intake.archive import KerasArchive
from app.intake.config import Config, parse_graph, parse_json
from app.intake.legacy.config import translate_model
from app.intake.legacy.masks import check_masks
from app.intake.legacy.modern import with_modules
from app.intake.legacy.notes import Notes, Scaling
from app.intake.legacy.weights import lay_out, scale_archive, scale_hdf5
from app.intake.magic import HDF5_MAGIC, SAVE_ADVICE

TARGET_VERSION = "3.15.1"
"""What mended files say that they were written by, so that they are not mended twice."""


@dataclass(frozen=True)
class Conversion:
    """A config in Keras 3's style, and what was done to get there."""

    config: Config
    mends: tuple[Mend, ...] = ()
    scalings: tuple[Scaling, ...] = ()


def is_legacy(version: str | None, config: Config) -> bool:
    """Whether a file was written by Keras 2.

    Raises:
        InvalidModel: by Keras 1, or by none that is known.
    """
    if version is None:
        # Early files do not say; only Keras 3 writes dtype policies as objects.
        return "DTypePolicy" not in json.dumps(config)
    if version.startswith("1.") or version.startswith("0."):
        raise InvalidModel(
            f"The file was written by Keras {version}. Files of Keras 2 and 3 are accepted: load "
            "it in Keras 2 and save it again."
        )
    return version.startswith("2.")


def check_backend(backend: str | None) -> None:
    """Keras 2 on other backends kept the kernels of convolutions otherwise.

    Raises:
        InvalidModel: the file was not written on TensorFlow.
    """
    if backend not in (None, "tensorflow"):
        raise InvalidModel(
            f"The file was written by Keras 2 on {backend}, which kept kernels otherwise than "
            "TensorFlow. Load it in Keras 2 on TensorFlow and save it again."
        )


def convert(config: Config, *, legacy: bool, hdf5_file: bool = False) -> Conversion:
    """Translate a legacy config; one of Keras 3 is left as it is, if Keras can read it back.

    Raises:
        InvalidModel: something cannot be carried over exactly.
    """
    notes = Notes()
    if not legacy:
        modern = with_modules(config, notes) if hdf5_file else config
        return Conversion(modern, tuple(notes.mends))
    new = translate_model(config, notes)
    check_masks(parse_graph(new))
    return Conversion(new, tuple(notes.mends), tuple(notes.scalings))


def plan_mends(config: Config) -> tuple[Mend, ...]:
    """Every change that a legacy config needs, without making any.

    Raises:
        InvalidModel: something cannot be carried over exactly.
    """
    return convert(config, legacy=True).mends


def mend_file(source: Path, destination: Path) -> tuple[Mend, ...]:
    """Write a legacy model file so that stock Keras 3.15 loads it right.

    The destination has the source's format; Keras picks its loader by suffix, so it must be
    named `.keras` or `.h5` accordingly. What needs no mending is copied as it is.

    Returns:
        What was changed.

    Raises:
        InvalidModel: the file cannot be read, or not mended exactly.
    """
    with source.open("rb") as file:
        magic = file.read(8)
    try:
        if magic == HDF5_MAGIC:
            return _mend_hdf5(source, destination)
        return _mend_archive(source, destination)
    except InvalidModel:
        raise
    except Exception as error:
        raise InvalidModel(
            f"The legacy model cannot be brought to Keras 3: its config and weights do not fit "
            f"together ({type(error).__name__}: {str(error)[:200]}). {SAVE_ADVICE}"
        ) from error


def _mend_hdf5(source: Path, destination: Path) -> tuple[Mend, ...]:
    with hdf5.opened(source) as file:
        config = parse_json(hdf5.text_attribute(file, "model_config") or "", "model_config")
        version = hdf5.text_attribute(file, "keras_version")
    conversion = convert(config, legacy=is_legacy(version, config), hdf5_file=True)
    if conversion.config is config:
        shutil.copyfile(source, destination)
        return ()
    root = {key: conversion.config[key] for key in ("class_name", "config")}
    with h5py.File(source, "r") as old, h5py.File(destination, "w") as new:
        _copy_weights(old, new)
        for scaling in conversion.scalings:
            scale_hdf5(new, scaling)
        new.attrs["model_config"] = json.dumps(root)
        new.attrs["keras_version"] = new["model_weights"].attrs["keras_version"] = TARGET_VERSION
        new.attrs["backend"] = new["model_weights"].attrs["backend"] = "tensorflow"
    return conversion.mends


def _copy_weights(old: Any, new: Any) -> None:
    """The layers' weights only: the optimizer's state and the compile config stay behind."""
    root = old.get("model_weights", old)
    target = new.create_group("model_weights")
    for name in root:
        if name != "optimizer_weights":
            root.copy(root[name], target, name)
    for key, value in root.attrs.items():
        if key.startswith("layer_names"):
            target.attrs[key] = value


def _mend_archive(source: Path, destination: Path) -> tuple[Mend, ...]:
    with source.open("rb") as file:
        opened = KerasArchive(file)
        config = parse_json(opened.config(), archive.CONFIG)
        version = parse_json(opened.metadata(), archive.METADATA).get("keras_version")
        legacy = is_legacy(version if isinstance(version, str) else None, config)
        conversion = convert(config, legacy=legacy)
        if not legacy:
            shutil.copyfile(source, destination)
            return ()
        with (
            tempfile.TemporaryDirectory(dir=destination.parent) as folder,
            opened.weights(Path(folder)) as weights,
        ):
            mended = Path(folder) / archive.WEIGHTS
            with hdf5.opened(weights) as old, h5py.File(mended, "w") as new:
                graph = parse_graph(conversion.config)
                lay_out(graph, old, new)
                for scaling in conversion.scalings:
                    scale_archive(graph, new, scaling)
            _write_archive(destination, conversion.config, mended, opened)
    return conversion.mends


def _write_archive(path: Path, config: Config, weights: Path, source: KerasArchive) -> None:
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(archive.METADATA, json.dumps({"keras_version": TARGET_VERSION}))
        target.writestr(archive.CONFIG, json.dumps(config))
        target.write(weights, archive.WEIGHTS)
        for name in source.assets():
            with source.member(name) as content, target.open(name, "w") as sink:
                shutil.copyfileobj(content, sink)
