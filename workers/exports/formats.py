"""Writing a model in the formats that users deploy."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.prune import Export
from workers.exports.sparse_file import write_sparse

Array = NDArray[np.generic]

FILE_NAMES: dict[Export, str] = {
    "keras": "model.keras",
    "h5": "model.h5",
    "sparse_npz": "model.sparse.npz",
    "litert": "model.tflite",
    "litert_sparse": "model_sparse.tflite",
    "litert_float16": "model_float16.tflite",
    "litert_dynamic_int8": "model_dynamic_int8.tflite",
    "litert_int8": "model_int8.tflite",
    "onnx": "model.onnx",
    "onnx_int8": "model_int8.onnx",
    "saved_model": "model.saved_model.zip",
}
Calibration = Sequence[Array]
"""Some training samples, an array for each input in the model's order, samples first."""


def write(model: Any, export: Export, folder: Path, calibration: Calibration | None = None) -> Path:
    """Write one format; the file's name is the artifact's.

    Args:
        model: a Keras model.
        export: the format.
        folder: where the file goes.
        calibration: what litert_int8 and onnx_int8 find the ranges of activations by.

    Raises:
        EngineRefusal: the format cannot express the model.
    """
    path = folder / FILE_NAMES[export]
    try:
        WRITERS[export](model, path, calibration)
    except Exception as error:
        raise EngineRefusal(
            f"The model cannot be exported as {export}: {type(error).__name__}: "
            f"{str(error).splitlines()[0][:500] if str(error) else ''} "
            f"Leave {export} out of exports.",
            field="exports",
        ) from error
    return path


def _keras(model: Any, path: Path, _: Calibration | None) -> None:
    model.save(path)


def _h5(model: Any, path: Path, _: Calibration | None) -> None:
    import warnings

    with warnings.catch_warnings():
        # Keras advises against HDF5; the user asked for it.
        warnings.simplefilter("ignore")
        model.save(path)
    try:
        keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(
            "Keras cannot load what it writes: an .h5 file does not tell functions of keras.ops "
            "from layers"
        ) from error


def _sparse_npz(model: Any, path: Path, _: Calibration | None) -> None:
    write_sparse(model, path)


def _litert(model: Any, path: Path, _: Calibration | None) -> None:
    model.export(str(path), format="litert", verbose=False)


def _litert_sparse(model: Any, path: Path, _: Calibration | None) -> None:
    # Weights stay float32: LiteRT 2.3 refuses files whose sparse kernels have 8 bits.
    sparse = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    model.export(str(path), format="litert", verbose=False, optimizations=sparse)


def _litert_float16(model: Any, path: Path, _: Calibration | None) -> None:
    _smaller(model, path, target_spec={"supported_types": [tf.float16]})


def _litert_dynamic_int8(model: Any, path: Path, _: Calibration | None) -> None:
    _smaller(model, path)


def _litert_int8(model: Any, path: Path, calibration: Calibration | None) -> None:
    if calibration is None or len(calibration) != 1:
        raise ValueError("ranges of activations are found for models with one input, on data")

    def samples() -> Iterator[list[Array]]:
        for sample in calibration[0]:
            yield [sample[None]]

    _smaller(model, path, representative_dataset=samples)


def _smaller(model: Any, path: Path, **settings: Any) -> None:
    """With the converter's default optimization: weights of 8 bits, unless told otherwise."""
    smaller = [tf.lite.Optimize.DEFAULT]
    model.export(str(path), format="litert", verbose=False, optimizations=smaller, **settings)


def _onnx(model: Any, path: Path, _: Calibration | None) -> None:
    # tf2onnx takes a second to import, and most jobs do without it.
    from workers.exports.onnx_file import write_onnx

    write_onnx(model, path)


def _onnx_int8(model: Any, path: Path, calibration: Calibration | None) -> None:
    from workers.exports.onnx_int8 import write_onnx_int8

    if calibration is None:
        raise ValueError("ranges of activations are found on data")
    write_onnx_int8(model, path, calibration)


def _saved_model(model: Any, path: Path, _: Calibration | None) -> None:
    folder = path.with_suffix("")
    model.export(str(folder), format="tf_saved_model", verbose=False)
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)


WRITERS: dict[Export, Callable[[Any, Path, Calibration | None], None]] = {
    "keras": _keras,
    "h5": _h5,
    "sparse_npz": _sparse_npz,
    "litert": _litert,
    "litert_sparse": _litert_sparse,
    "litert_float16": _litert_float16,
    "litert_dynamic_int8": _litert_dynamic_int8,
    "litert_int8": _litert_int8,
    "onnx": _onnx,
    "onnx_int8": _onnx_int8,
    "saved_model": _saved_model,
}
