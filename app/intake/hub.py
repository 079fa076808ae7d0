"""KerasHub: layers and models whose code is in a package of Keras' own makers.

A file only names such classes. Whether it means KerasHub is told by comparing text with the
prefixes that KerasHub registers its classes under; nothing is imported here. The worker imports
the package, if it has it, before it loads such a file (`workers.loading`).
"""

import re
from collections.abc import Iterator
from typing import Any

import h5py

from app.domain.errors import InvalidModel
from app.intake.compile_config import snake_case
from app.intake.config import LAYER_LIMIT, Config, Graph, Layer, TensorRef
from app.intake.known import KNOWN_LAYERS, SCOPE_NAME
from app.intake.variables import Variables, group_variables, stored_name

REQUIREMENT = "keras-hub"
"""What must be installed on the worker, by its name on PyPI."""
_PACKAGES = ("keras_hub", "keras_nlp")
"""KerasHub was called KerasNLP, and still registers its classes under that name too."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DATA_CLASSES = ("Tokenizer", "Preprocessor", "Converter", "Packer", "MaskGenerator", "Sampler")
"""What such classes are named: they prepare data and read files, and compute no layer."""
_CLASS_OF_KEY = {snake_case(name): name for name in sorted(KNOWN_LAYERS)}


def is_hub(entry: Config) -> bool:
    """Whether a serialised object is a class or function that KerasHub registers."""
    return _registered(entry) and not is_data_class(entry)


def is_data_class(entry: Config) -> bool:
    """Whether it is one of KerasHub's tokenizers, preprocessors or the like."""
    return _registered(entry) and hub_name(entry).endswith(_DATA_CLASSES)


def hub_name(entry: Config) -> str:
    """`BertBackbone` of an entry in either file layout."""
    name = entry.get("class_name")
    name = entry.get("config") if name == "function" else name
    return str(name).rsplit(">", 1)[-1]


def _registered(entry: Config) -> bool:
    module, registered = entry.get("module"), entry.get("registered_name")
    if entry.get("class_name") == "function":
        registered = entry.get("config")
    elif "module" not in entry and registered is None:
        registered = entry.get("class_name")  # An .h5 file keeps only the registered name.
    if not isinstance(registered, str) or registered.count(">") != 1:
        return False
    package, name = registered.split(">")
    from_package = module in (None, "builtins") or (
        isinstance(module, str) and module.split(".")[0] == package
    )
    return (
        package in _PACKAGES
        and from_package
        and _NAME.fullmatch(name) is not None
        and name == hub_name(entry)
    )


def needs_hub(value: Any) -> bool:
    """Whether anything in a config is KerasHub's."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if _registered(item):
                return True
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return False


def stored_graph(config: Config, root: Any) -> tuple[Graph, Variables]:
    """What the weights tell of a model whose graph is built by its class.

    Args:
        config: the serialised model, whose own config lists no layers.
        root: the group that holds the layers' groups.

    Returns:
        A graph without calls and outputs, with the layers as they are stored: each group says
        what its layer is called, and its own name what class it is of.

    Raises:
        InvalidModel: there are no layers, or they cannot be told apart.
    """
    layers: list[Layer] = []
    variables: Variables = {}
    if root is None or not len(root) or len(root) > LAYER_LIMIT:
        raise InvalidModel(
            f"The model of class {config.get('class_name')!r} holds no layers with weights. Build "
            "it (call it once) and save it again."
        )
    for key, group in sorted(_groups(root), key=lambda pair: _natural(pair[0])):
        layer = _stored_layer(key, group, config, "input_layer_1" not in root)
        if layer.name in variables:
            raise InvalidModel(f"The file holds two layers {layer.name!r}; names must be unique.")
        layers.append(layer)
        variables[layer.name] = tuple(group_variables(group))
    inputs = tuple(TensorRef(name, 0, 0) for name in _input_names(layers, root))
    inner = config["config"] if isinstance(config.get("config"), dict) else {}
    return Graph(str(inner.get("name", "model")), False, tuple(layers), inputs, ()), variables


def _input_names(layers: list[Layer], root: Any) -> list[str]:
    """KerasHub's models take several inputs by their names, which Keras sorts."""
    names = sorted(layer.name for layer in layers if layer.class_name == "InputLayer")
    noted = {stored_name(group) for _, group in _groups(root)}
    return names if len(names) == 1 or set(names) <= noted else []


def _groups(root: Any) -> Iterator[tuple[str, Any]]:
    for key in root:
        if isinstance(root[key], h5py.Group):
            yield key, root[key]


def _natural(key: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+?)_(\d{1,9})", key)
    return (match[1], int(match[2])) if match else (key, 0)


def _stored_layer(key: str, group: Any, model: Config, alone: bool) -> Layer:
    name = stored_name(group) or key
    if not SCOPE_NAME.fullmatch(name):
        raise InvalidModel(f"The file holds weights of a layer called {name[:100]!r}.")
    kind = _natural(key)[0]
    class_name = _CLASS_OF_KEY.get(kind) or "".join(part.title() for part in kind.split("_"))
    config: Config = {"name": name}
    if key == "input_layer" and alone and (shape := _image_shape(model)) is not None:
        config["batch_shape"] = [None, *shape]
    return Layer(name, class_name, config, {"class_name": class_name, "config": config})


def _image_shape(model: Config) -> list[int | None] | None:
    """The shape that a model of images says it takes: its own, or its backbone's."""
    config = model.get("config")
    if not isinstance(config, dict):
        return None
    shape = config.get("image_shape")
    if isinstance(shape, list) and len(shape) == 3:
        return shape
    backbone = config.get("backbone")
    return _image_shape(backbone) if isinstance(backbone, dict) else None
