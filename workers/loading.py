"""Loading a model for a job: mended where needed, and held against its static reading."""

import importlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import keras

from app.domain.errors import EngineRefusal, InvalidModel
from app.domain.model import ModelInfo, TensorInfo
from app.intake.hub import REQUIREMENT
from app.intake.legacy import mend_file
from workers.names import input_names, output_names

PACKAGES = {REQUIREMENT: "keras_hub"}
"""What a model may require, and the package that registers those classes with Keras."""


def load(path: Path, info: ModelInfo, scratch: Path) -> Any:
    """The Keras model in a file, not compiled.

    Args:
        path: the stored upload, under whatever name.
        info: its static reading by `app.intake.models.inspect_model`.
        scratch: folder for a copy with the right suffix; Keras picks its loader by suffix.

    Returns:
        The `keras.Model`; a Functional where the file names a class that builds the graph.

    Raises:
        InvalidModel: Keras cannot load it, or it is another model than was read.
        EngineRefusal: it loads, but is not a model whose graph is known; or it needs a package
            that is not installed here.
    """
    import_requirements(info)
    named = scratch / f"model.{info.format}"
    if info.legacy or info.mends:
        mend_file(path, named)
    elif path.suffix != named.suffix:
        named.unlink(missing_ok=True)
        _link(path, named)
    else:
        named = path
    model = _load(named)
    check_loaded(model, info)
    return plain(model, info)


def plain(model: Any, info: ModelInfo) -> Any:
    """The same layers and graph in a model that takes arrays in the order of its inputs.

    KerasHub's classes prepare data inside `fit` and `predict`, and take no lists there. Inputs
    by name are taken as a list only where the names are sorted, as Keras flattens them.
    """
    inputs = getattr(model, "input", None)
    if isinstance(inputs, dict) and list(inputs) != sorted(inputs):
        inputs = {name: inputs[name] for name in sorted(inputs)}
    elif info.graph_known:
        return model
    return keras.Model(inputs, model.output, name=model.name)


def import_requirements(info: ModelInfo) -> None:
    """Import what registers the model's classes: only packages from a fixed list, and only now.

    Raises:
        EngineRefusal: it is not installed.
    """
    for name in info.requires:
        package = PACKAGES.get(name)
        try:
            if package is None:
                raise ImportError(name)
            importlib.import_module(package)
        except ImportError as error:
            raise EngineRefusal(
                f"The model needs {name}, which this worker lacks. Install it beside Keras on "
                f"the workers (pip install {name}) and submit the job again."
            ) from error


def _link(path: Path, named: Path) -> None:
    try:
        named.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, named)


def _load(path: Path) -> Any:
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras and the layers below it raise whatever they like on a config they do not take.
        raise InvalidModel(
            f"Keras {keras.__version__} cannot load the model: {_first_words(error)}"
        ) from error


def _first_words(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}…"


def check_order(model: Any, info: ModelInfo) -> None:
    """Keras hands stored weights to layers by their order alone; it must be that of the config.

    Raises:
        InvalidModel: the layers come in another order, so weights went to the wrong ones.
    """
    counts = {layer.name: layer.parameters for layer in info.layers if layer.parameters}
    if not info.graph_known:
        check_sizes(model, counts)
        return
    loaded = {layer.name: int(layer.count_params()) for layer in model.layers}
    order = [name for name in loaded if loaded[name]]
    if order != list(counts) or any(loaded[name] != counts[name] for name in counts):
        raise InvalidModel(
            "Keras builds the model's layers in another order, or of another size, than the file "
            "holds their weights, so weights would go to the wrong layers. Load the model in the "
            "Keras that wrote it and save it again."
        )


def check_sizes(model: Any, counts: dict[str, int]) -> None:
    """Where a class builds the graph, the file does not say in which order; sizes must agree.

    Raises:
        InvalidModel: there are layers in the file that the model has not.
    """
    missing = Counter(counts.values()) - Counter(
        int(layer.count_params()) for layer in model.layers
    )
    if missing:
        names = [name for name, count in counts.items() if count in missing]
        raise InvalidModel(
            f"The installed {' and '.join(PACKAGES)} builds the model without layers of the sizes "
            f"of {', '.join(names[:10])}, which the file holds. Load it in the release that wrote "
            "it and save it again."
        )


def check_loaded(model: Any, info: ModelInfo) -> None:
    """Hold the loaded model against what was read of the file.

    Raises:
        InvalidModel: the parameters differ, so weights were lost or mixed up.
        EngineRefusal: the model has no graph.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise EngineRefusal(
            "The model loads but has no graph of layers between inputs and outputs. Build it "
            "as a Sequential or Functional model with an Input and save it again."
        )
    check_order(model, info)
    count = int(model.count_params())
    if count != info.parameters:
        raise InvalidModel(
            f"The file holds {info.parameters} parameters, but the model that Keras builds from "
            f"its config has {count}. The file is damaged, or mixes two models."
        )


def completed(model: Any, info: ModelInfo) -> ModelInfo:
    """The reading, with the inputs and outputs that only the loaded model tells."""
    known = info.graph_known and all(tensor.shape is not None for tensor in info.outputs)
    if known:
        return info
    inputs, outputs = (
        tuple(
            TensorInfo(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))
            for name, tensor in zip(names, tensors, strict=True)
        )
        for names, tensors in (
            (input_names(model), model.inputs),
            (output_names(model), model.outputs),
        )
    )
    return info.model_copy(update={"inputs": inputs, "outputs": outputs})
