"""Layers that cannot be taken, told from the config alone, each with its reason."""

from collections.abc import Iterator
from typing import Any

from app.domain.errors import InvalidModel
from app.intake import hub
from app.intake.allowed import check_allowed
from app.intake.config import Config, Graph, Layer
from app.intake.findings import Findings
from app.intake.known import ACTIVATIONS, KNOWN_LAYERS, PYTHON_NAMES, REASONS, SCOPE_NAME

WRAPPED = ("layer", "forward_layer", "backward_layer", "cell")
_KERAS_MODULES = ("keras", "builtins", "keras_core")
_MISREAD = frozenset(
    {"Add", "Average", "Dot", "Maximum", "Minimum", "Multiply", "Reshape", "Subtract"}
)
"""Names of layers and of functions that are called otherwise than the layers."""
_FLOAT_POLICIES = frozenset({"DTypePolicy", "FloatDTypePolicy", "DTypePolicyMap"})


def check_layers(graph: Graph) -> None:
    """Refuse what Keras 3.15 cannot load safely, or what cannot be pruned.

    Raises:
        InvalidModel: says of every such layer why.
    """
    findings = Findings()
    for path, layer in graph.every_layer():
        with findings.of(path):
            check_layer(layer)
    findings.check()


def check_layer(layer: Layer) -> None:
    """One layer, with what it wraps; the layers of a nested model are looked at by themselves.

    Raises:
        InvalidModel: it cannot be taken; says why and what to do.
    """
    if not SCOPE_NAME.fullmatch(layer.name):
        raise InvalidModel(
            f"TensorFlow cannot run a layer called {layer.name!r}: names may hold ASCII "
            "letters, digits and _ . - / only. Rename the layer and save the model again."
        )
    for entry in (layer.entry, *wrapped_entries(layer.config)):
        check_class(layer.name, entry)
    for part in _own_parts(layer):
        check_object(layer.name, part)
    check_precision(layer.name, layer.entry if layer.inner is None else {})
    for part in _own_parts(layer):
        check_allowed(layer.name, part)
    if layer.inner is None and is_misread(layer):
        raise InvalidModel(
            f"Layer {layer.name!r} is a function of keras.ops, which an .h5 file does not tell "
            f"from the layer {layer.class_name!r}, so Keras cannot load it. Load the model where "
            "it was made and save it as .keras."
        )


def _own_parts(layer: Layer) -> Iterator[Config]:
    """All dictionaries of a layer; those of a nested model's layers belong to these."""
    entry = layer.entry
    if layer.inner is not None:
        config = {key: value for key, value in layer.config.items() if key != "layers"}
        entry = {**entry, "config": config}
    return dictionaries(entry)


def check_root(config: Config) -> None:
    """What a model's own config holds beside its layers.

    Raises:
        InvalidModel: it names what is not allowed.
    """
    own = {key: value for key, value in config["config"].items() if key != "layers"}
    for part in dictionaries({**config, "config": own}):
        check_object("model", part)
        check_allowed("model", part)


def is_misread(layer: Layer) -> bool:
    """Whether an `.h5` file of Keras 3 takes a function for the layer of the same name.

    The file leaves out modules; but a layer's config says whether it is trainable, and a
    function has nothing to train.
    """
    return (
        "module" not in layer.entry
        and layer.class_name in _MISREAD
        and "trainable" not in layer.config
        and "dtype" not in layer.config
    )


def check_model_class(config: Config) -> None:
    """A model of a class of KerasHub's, whose config lists no layers.

    Raises:
        InvalidModel: it holds what cannot be taken.
    """
    findings = Findings()
    name = str(hub.hub_name(config))
    with findings.of(name):
        for part in dictionaries(config):
            check_object(name, part)
    with findings.of(name):
        check_precision(name, config)
    with findings.of(name):
        for part in dictionaries(config):
            check_allowed(name, part)
    findings.check()


def check_class(name: str, entry: Config) -> None:
    """The class of one serialised layer.

    Raises:
        InvalidModel: it is not one that Keras 3.15 or KerasHub bring along.
    """
    class_name = str(entry.get("class_name"))
    module = entry.get("module")
    reason = REASONS.get(class_name)
    if reason is None and hub.is_hub(entry):
        return
    if reason is None and is_foreign(entry):
        reason = (
            f"class {class_name!r} comes from {module or entry.get('registered_name')!r} and not "
            "from Keras or KerasHub; its code is not in the file. Rebuild the model from built-in "
            "layers"
        )
    in_layers = module in (None, "keras", "keras.layers")
    known = class_name in KNOWN_LAYERS or class_name in PYTHON_NAMES.values()
    if reason is None and in_layers and not known:
        reason = (
            f"Keras 3.15 has no layer {class_name!r}, and the code of custom layers is not in the "
            "file. Rebuild the model from built-in layers; if it is a function of keras.ops, "
            "save it as .keras instead of .h5"
        )
    if reason is not None:
        raise InvalidModel(f"Layer {name!r} cannot be used: {reason}.")


def check_object(name: str, entry: Config) -> None:
    """Any serialised object inside a layer: activations, initialisers, functions.

    Raises:
        InvalidModel: it carries code, or needs code that is in neither Keras nor KerasHub.
    """
    class_name = entry.get("class_name")
    if class_name == "__lambda__" or _is_code(entry):
        raise InvalidModel(
            f"Layer {name!r} cannot be used: it holds a Python lambda, which is never run here. "
            "Replace it by a built-in activation or layer."
        )
    if hub.is_data_class(entry):
        raise InvalidModel(
            f"{name!r} holds a {hub.hub_name(entry)}, which prepares data and has nothing to "
            "prune. Set model.preprocessor = None, save the model again, and upload data sets "
            "that are prepared already."
        )
    if hub.is_hub(entry):
        return
    if class_name in REASONS:
        check_class(name, entry)
    what = entry.get("config") if class_name == "function" else class_name
    # Keras writes functions of one's own as if they were built in.
    is_own = class_name == "function" and what not in ACTIVATIONS
    if class_name == "__typespec__" or is_own or is_foreign(entry):
        raise InvalidModel(
            f"Layer {name!r} cannot be used: it needs {what!r}, which Keras does not bring along; "
            "its code is not in the file. Replace it by a built-in one."
        )


def _is_code(entry: Config) -> bool:
    """Whether this is a Python function as Keras stores one: code, defaults and closure."""
    value = entry.get("value")
    if set(entry) != {"value"} or not isinstance(value, list) or len(value) != 3:
        return False
    return isinstance(value[0], str)


def is_foreign(entry: Config) -> bool:
    """Whether a serialised object says that it comes from outside Keras."""
    module, registered = entry.get("module"), entry.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        return True
    if "module" not in entry:
        return False
    if not isinstance(module, str):
        return True
    return module.split(".")[0] not in _KERAS_MODULES


def check_precision(name: str, entry: Config) -> None:
    """Quantised and adapted layers hold their weights in a form that cannot be pruned.

    Raises:
        InvalidModel: the layer, or one inside it, is quantised or has LoRA adapters.
    """
    for part in dictionaries(entry):
        if (how := _quantised(part)) is not None:
            raise InvalidModel(
                f"Layer {name!r} is already quantised ({how}); pruning works on float weights: "
                "prune before quantising. Upload the model as it was before quantisation."
            )
        if part.get("lora_rank"):
            raise InvalidModel(
                f"Layer {name!r} has LoRA adapters. Merge them into the weights and save the "
                "model again."
            )


def _quantised(part: Config) -> str | None:
    """How an object of a config is quantised; `None` where it is not."""
    class_name, inner = str(part.get("class_name")), part.get("config")
    if class_name.endswith("DTypePolicy") and isinstance(inner, dict):
        mode = inner.get("mode")
        if class_name not in _FLOAT_POLICIES or "_from_" in str(inner.get("name")):
            return str(mode or inner.get("name") or class_name)
    if isinstance(dtype := part.get("dtype"), str) and "_from_" in dtype:
        return dtype
    mode = part.get("quantization_mode") or part.get("quantization_config")
    if isinstance(mode, dict):
        return str(mode.get("class_name"))
    return str(mode) if mode else None


def wrapped_entries(config: Config) -> Iterator[Config]:
    """Serialised layers inside a wrapper's config: TimeDistributed, Bidirectional, RNN."""
    found: list[Any] = [config.get(key) for key in WRAPPED]
    cells = config.get("cells")
    found.extend(cells if isinstance(cells, list) else [])
    for entry in found:
        items = entry if isinstance(entry, list) else [entry]
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("config"), dict):
                yield item
                yield from wrapped_entries(item["config"])


def dictionaries(value: Any) -> Iterator[Config]:
    """Every dictionary within a value, the outermost first."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from dictionaries(item)
    elif isinstance(value, list):
        for item in value:
            yield from dictionaries(item)
