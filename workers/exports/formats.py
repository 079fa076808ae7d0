"""Writing a model in the formats that users deploy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.domain.errors import EngineRefusal
from app.domain.spec import Export

FILE_NAMES: dict[Export, str] = {
    "keras": "model.keras",
    "h5": "model.h5",
    "litert": "model.tflite",
    "onnx": "model.onnx",
}


def write(model: Any, export: Export, folder: Path) -> Path:
    """Write one format; the file's name is the artifact's.

    Raises:
        EngineRefusal: the format cannot express the model.
    """
    path = folder / FILE_NAMES[export]
    try:
        WRITERS[export](model, path)
    except Exception as error:
        raise EngineRefusal(
            f"The model cannot be exported as {export}: {type(error).__name__}: "
            f"{str(error).splitlines()[0][:500] if str(error) else ''} "
            f"Leave {export} out of exports.",
            field="exports",
        ) from error
    return path


def _keras(model: Any, path: Path) -> None:
    model.save(path)


def _h5(model: Any, path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        # Keras advises against HDF5; the user asked for it.
        warnings.simplefilter("ignore")
        model.save(path)


def _litert(model: Any, path: Path) -> None:
    model.export(str(path), format="litert", verbose=False)


def _onnx(model: Any, path: Path) -> None:
    # tf2onnx takes a second to import, and most jobs do without it.
    from workers.exports.onnx_file import write_onnx

    write_onnx(model, path)


WRITERS: dict[Export, Callable[[Any, Path], None]] = {
    "keras": _keras,
    "h5": _h5,
    "litert": _litert,
    "onnx": _onnx,
}
