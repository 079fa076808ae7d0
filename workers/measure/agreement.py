"""Whether an exported file computes what the model computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from workers.measure.latency import onnxruntime_call, probe
from workers.names import output_names

SAMPLES = 3
TOLERANCE = 1e-4
"""Of the largest output: float noise."""
HALF_TOLERANCE = 5e-2
"""For models that compute in 16 bits."""


def ensure_agreement(model: Any, file: Path, *, seed: int) -> None:
    """Run an ONNX file on random inputs, and hold its outputs against the model's.

    Raises:
        EngineRefusal: ONNX Runtime cannot run the file, or an output differs by more than 1e-4 of
            its largest value (5e-2 where the model computes in 16 bits).
    """
    inputs = probe(model, SAMPLES, seed)
    try:
        received: Any = onnxruntime_call(file, inputs)()
    except RuntimeError as error:
        raise EngineRefusal(
            f"The model was exported as onnx, but ONNX Runtime cannot run the file: "
            f"{str(error).splitlines()[0][:500]} Leave onnx out of exports.",
            field="exports",
        ) from error
    half = any("16" in str(getattr(layer, "compute_dtype", "")) for layer in model.layers)
    for name, one, other in zip(
        output_names(model), computed(model, inputs), received, strict=True
    ):
        difference = disagreement(one, np.asarray(other))
        if difference > (HALF_TOLERANCE if half else TOLERANCE):
            raise EngineRefusal(
                f"The model was exported as onnx, but the file computes something else: output "
                f"'{name}' differs from the model's by {difference:.1e} of its largest value on "
                "random inputs. The file is not handed out. Leave onnx out of exports.",
                field="exports",
            )


def disagreement(expected: NDArray[Any], received: NDArray[Any]) -> float:
    """Largest difference as a share of the largest expected magnitude (of 1 where all are 0).

    Infinite where shapes differ, or where NaN and infinity stand in other places.
    """
    if expected.shape != received.shape:
        return float("inf")
    a, b = expected.astype("float64"), received.astype("float64")
    finite = np.isfinite(a)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(b[finite]).all()
    ):
        return float("inf")
    scale = float(np.abs(a[finite]).max(initial=0.0))
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / (scale or 1.0)


def as_given(model: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
    """Inputs in the structure that a model takes them in."""
    values = list(inputs.values())
    structure = getattr(model, "_inputs_struct", None)
    return values[0] if structure is None else keras.tree.pack_sequence_as(structure, values)


def computed(model: Any, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What a model makes of inputs, one array per output, called as it is: nothing is compiled."""
    outputs = keras.tree.flatten(model(as_given(model, inputs), training=False))
    return [keras.ops.convert_to_numpy(output) for output in outputs]
