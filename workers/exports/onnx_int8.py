"""A Keras model as an ONNX file of 8 bits, by ONNX Runtime's own quantiser."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from workers.exports.onnx_file import write_onnx
from workers.names import input_names

Array = NDArray[np.generic]


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """One sample after the other, by the names of the inputs."""

    def __init__(self, names: Sequence[str], samples: Sequence[Array]) -> None:
        self._left = self._each(names, samples)

    @staticmethod
    def _each(names: Sequence[str], samples: Sequence[Array]) -> Iterator[dict[str, Array]]:
        for place in range(len(samples[0])):
            yield {
                name: values[place : place + 1] for name, values in zip(names, samples, strict=True)
            }

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def _typed(model: Any, samples: Sequence[Array]) -> list[Array]:
    """Samples of the types that the model takes: data sets hold other whole numbers."""
    types = [keras.backend.standardize_dtype(tensor.dtype) for tensor in model.inputs]
    return [each.astype(kind) for each, kind in zip(samples, types, strict=True)]


def write_onnx_int8(model: Any, path: Path, samples: Sequence[Array]) -> None:
    """Weights of 8 bits with a scale for each output channel, activations of 8 bits.

    Quantise and dequantise pairs around float operations (QDQ), which every runtime reads and those
    that know fuse. Inputs and outputs stay float32.

    Args:
        model: a Keras model.
        path: of the file.
        samples: what the ranges of activations are found by, an array for each input.
    """
    with TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / "whole.onnx"
        write_onnx(model, whole)
        quantize_static(
            str(whole),
            str(path),
            _Samples(input_names(model), _typed(model, samples)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
