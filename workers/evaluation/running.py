"""Exported files, each opened and run by its own runtime."""

import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from app.domain.metrics import TensorFigure
from workers.measure.agreement import computed
from workers.measure.latency import match
from workers.names import input_names, output_names

Array = NDArray[Any]
Inputs = Mapping[str, Array]
"""By the model's input name, in the model's order, samples first."""


@dataclass(frozen=True)
class Opened:
    """A file that is ready to run."""

    inputs: tuple[TensorFigure, ...]
    outputs: tuple[TensorFigure, ...]
    """In the model's order."""
    details: dict[str, str]
    """What else an integrator asks for: versions, operation sets."""
    run: Callable[[Inputs], list[Array]]
    """One array per output, in the model's order, of a batch."""


def opened(file: Path, threads: int = 1) -> Opened:
    """Open a file as `workers.exports` writes it.

    Raises:
        ValueError, RuntimeError: its runtime cannot open it.
    """
    suffix = "".join(file.suffixes[-2:]) if file.name.endswith(".zip") else file.suffix
    return READERS[suffix](file, threads)


# --- LiteRT ------------------------------------------------------------------------------------
def _litert(file: Path, threads: int) -> Opened:
    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    sizes: list[int] = []

    def run(inputs: Inputs) -> list[Array]:
        wanted = [(detail, match(detail, inputs)) for detail in interpreter.get_input_details()]
        size = len(wanted[0][1])
        if sizes != [size]:
            sizes[:] = [size]
            for detail, values in wanted:
                interpreter.resize_tensor_input(detail["index"], values.shape)
            interpreter.allocate_tensors()
        for detail, values in wanted:
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]) for one in _ordered(interpreter).values()]

    ins = [
        _tensor(name, one["shape_signature"], one["dtype"])
        for name, one in interpreter.get_signature_runner().get_input_details().items()
    ]
    outs = [
        _tensor(name, one["shape_signature"], one["dtype"])
        for name, one in _ordered(interpreter).items()
    ]
    return Opened(
        tuple(ins), tuple(outs), {"converter": f"tensorflow {version('tensorflow')}"}, run
    )


def _ordered(interpreter: Any) -> dict[str, dict[str, Any]]:
    """Outputs by their name in the signature, in the model's order, whatever the file's is."""
    named = interpreter.get_signature_runner().get_output_details()
    return {name: named[name] for name in sorted(named, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Signatures call outputs `output_0`, `output_1`, …; where the model answers by name, by these
    names, which Keras puts in alphabetical order.
    """
    number = name.removeprefix("output_")
    return (int(number) if number.isdigit() else 0, name)


# --- ONNX Runtime ------------------------------------------------------------------------------
def _onnx(file: Path, threads: int) -> Opened:
    import onnxruntime as ort  # It starts a thread, and the template may not have one.

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(file), options)
    except Exception as error:
        # Its errors have no base class but Exception.
        raise RuntimeError(str(error)) from error

    wanted = {one.name: _numpy_name(one.type) for one in session.get_inputs()}

    def run(inputs: Inputs) -> list[Array]:
        fed = {name: np.asarray(values, dtype=wanted[name]) for name, values in inputs.items()}
        try:
            return [np.asarray(each) for each in session.run(None, fed)]
        except Exception as error:
            raise RuntimeError(str(error)) from error

    def tensors(found: Any) -> tuple[TensorFigure, ...]:
        return tuple(_tensor(one.name, one.shape, _numpy_name(one.type)) for one in found)

    from workers.exports.onnx_file import OPSET

    details = {"opset": str(OPSET), "converter": f"tf2onnx {version('tf2onnx')}"}
    return Opened(tensors(session.get_inputs()), tensors(session.get_outputs()), details, run)


def _numpy_name(onnx_type: str) -> str:
    """`tensor(float)` is float32, `tensor(double)` float64; all others are called as in numpy."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


# --- TensorFlow and Keras ----------------------------------------------------------------------
def _saved_model(file: Path, _: int) -> Opened:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder)
        loaded = tf.saved_model.load(folder)
    call = loaded.signatures["serving_default"]
    _, wanted = call.structured_input_signature
    given = call.structured_outputs

    def run(inputs: Inputs) -> list[Array]:
        # The functions live as long as what they were loaded with.
        assert loaded is not None
        fed = {name: _fed(inputs, name) for name in wanted}
        found = call(**{name: tf.cast(fed[name], one.dtype) for name, one in wanted.items()})
        return [found[name].numpy() for name in sorted(found, key=_place)]

    ins = [_tensor(name, one.shape, one.dtype.as_numpy_dtype) for name, one in wanted.items()]
    outs = [
        _tensor(name, given[name].shape, given[name].dtype.as_numpy_dtype)
        for name in sorted(given, key=_place)
    ]
    details = {"signature": "serving_default", "converter": f"tensorflow {version('tensorflow')}"}
    return Opened(tuple(ins), tuple(outs), details, run)


def _fed(inputs: Inputs, argument: str) -> Array:
    """The input that an argument stands for; TensorFlow writes `_` for what names may not hold."""
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    named = {re.sub(r"\W", "_", name): values for name, values in inputs.items()}
    return named[re.sub(r"\W", "_", argument)]


def _keras(file: Path, _: int) -> Opened:
    model = keras.models.load_model(file, compile=False)

    ins, outs = (
        tuple(
            _tensor(name, tensor.shape, tensor.dtype)
            for name, tensor in zip(names, tensors, strict=True)
        )
        for names, tensors in (
            (input_names(model), model.inputs),
            (output_names(model), model.outputs),
        )
    )
    return Opened(ins, outs, {"keras": version("keras")}, lambda inputs: computed(model, inputs))


def _tensor(name: str, shape: Any, dtype: Any) -> TensorFigure:
    """An axis that is not known beforehand is None, however a runtime says so."""
    axes = [
        int(axis) if isinstance(axis, int | np.integer) and axis >= 0 else None for axis in shape
    ]
    return TensorFigure(name=name, shape=tuple(axes), dtype=np.dtype(dtype).name)


READERS: Mapping[str, Callable[[Path, int], Opened]] = {
    ".tflite": _litert,
    ".onnx": _onnx,
    ".saved_model.zip": _saved_model,
    ".keras": _keras,
    ".h5": _keras,
}
"""By the end of a file's name; a sparse archive has no runtime of its own."""
