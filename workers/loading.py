"""Loading a model for a job: mended where needed, and held against its static reading."""

import shutil
from pathlib import Path
from typing import Any

import keras

from app.domain.errors import EngineRefusal, InvalidModel
from app.domain.model import ModelInfo
from app.intake.legacy import mend_file


def load(path: Path, info: ModelInfo, scratch: Path) -> Any:
    """The Keras model in a file, not compiled.

    Args:
        path: the stored upload, under whatever name.
        info: its static reading by `app.intake.models.inspect_model`.
        scratch: folder for a copy with the right suffix; Keras picks its loader by suffix.

    Returns:
        The `keras.Model`.

    Raises:
        InvalidModel: Keras cannot load it, or it is another model than was read.
        EngineRefusal: it loads, but is not a model whose graph is known.
    """
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
    return model


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
    loaded = {layer.name: int(layer.count_params()) for layer in model.layers}
    order = [name for name in loaded if loaded[name]]
    if order != list(counts) or any(loaded[name] != counts[name] for name in counts):
        raise InvalidModel(
            "Keras builds the model's layers in another order, or of another size, than the file "
            "holds their weights, so weights would go to the wrong layers. Load the model in the "
            "Keras that wrote it and save it again."
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
