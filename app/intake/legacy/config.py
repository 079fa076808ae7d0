"""A whole Keras 2 config as a Keras 3 config: models, wrappers, cells and layers."""

from typing import Any

from app.domain.errors import InvalidModel
from app.intake.config import Config
from app.intake.findings import Findings
from app.intake.known import KNOWN_LAYERS, REASONS
from app.intake.legacy import gates as legacy_gates
from app.intake.legacy.layers import class_of, layer_config, safe_name
from app.intake.legacy.nodes import Wiring, call, references
from app.intake.legacy.notes import Notes, Step, refuse
from app.intake.legacy.ops import as_layer
from app.intake.refusals import WRAPPED, check_class

_MODELS = ("Functional", "Model", "Sequential")
_TARGET_MODULES = {"Functional": "keras.src.models.functional", "Sequential": "keras"}


def translate_model(entry: Config, notes: Notes, path: tuple[Step, ...] = ()) -> Config:
    """A serialised Sequential or Functional model of Keras 2, as Keras 3 writes it.

    Raises:
        InvalidModel: some layer cannot be carried over exactly.
    """
    config = entry.get("config")
    if isinstance(config, list):
        notes.mend(
            None,
            "list of layers put into a dictionary",
            "Keras 2.0 wrote Sequential so",
        )
        config = {"name": "sequential", "layers": config}
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise InvalidModel(
            f"The model is of class {entry.get('class_name')!r} and its config lists no layers. "
            "Only Sequential and Functional models can be pruned; rebuild it as one of these."
        )
    _check_subclass(entry)
    if "input_layers" in config:
        return _functional(entry, config, notes, path)
    return _sequential(entry, config, notes, path)


def _check_subclass(entry: Config) -> None:
    class_name = entry.get("class_name")
    if class_name not in _MODELS:
        raise InvalidModel(
            f"The model is of class {class_name!r}, whose code is not in the file. Rebuild it "
            "from its inputs and outputs with keras.Model and save it again."
        )


def _model(class_name: str, config: Config) -> Config:
    registered = "Functional" if class_name == "Functional" else None
    return {
        "module": _TARGET_MODULES[class_name],
        "class_name": class_name,
        "config": config,
        "registered_name": registered,
    }


def _sequential(entry: Config, config: Config, notes: Notes, path: tuple[Step, ...]) -> Config:
    name = safe_name(str(config.get("name") or "sequential"))
    layers: list[Config] = []
    findings = Findings()
    for index, old in enumerate(config["layers"]):
        with findings.of(_name_of(old)):
            new = translate_layer(old, notes, path)
            if index == 0 and new["class_name"] != "InputLayer":
                layers.extend(_sequential_input(entry, config, old, new, notes))
            if _is_bare(new):
                added = f"{new['config']['name']}_rescaling"
                legacy_gates.note_rescaling(str(new["config"]["name"]), notes)
                layers.append(legacy_gates.rescaling(added))
            layers.append(new)
    findings.check()
    kept = {
        "name": name,
        "trainable": bool(config.get("trainable", True)),
        "layers": layers,
    }
    return _model("Sequential", kept)


def _sequential_input(
    entry: Config, config: Config, old: Config, new: Config, notes: Notes
) -> list[Config]:
    """The InputLayer that Keras 2 kept in the settings of the first layer."""
    first = old.get("config")
    first = first if isinstance(first, dict) else {}
    if new["class_name"] in ("Functional", "Sequential"):
        inner = new["config"]["layers"]
        inputs = [item for item in inner if item["class_name"] == "InputLayer"]
        if len(inputs) == 1:
            return [_input(f"{new['config']['name']}_input", inputs[0]["config"])]
    shape = first.get("batch_input_shape")
    build = entry.get("build_config")
    shape = shape or config.get("build_input_shape")
    shape = shape or (build.get("input_shape") if isinstance(build, dict) else None)
    if not isinstance(shape, list):
        return []
    name = str(first.get("name", "layer"))
    notes.mend(
        name,
        f"input shape {shape} moved into an InputLayer",
        "Keras 3 misreads a batch_input_shape on the first layer",
    )
    dtype = "int32" if old.get("class_name") == "Embedding" else first.get("dtype", "float32")
    dtype = dtype if isinstance(dtype, str) and not dtype.startswith("mixed") else "float32"
    return [_input(f"{name}_input", {"batch_shape": shape, "dtype": dtype})]


def _input(name: str, config: Config) -> Config:
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {
            "batch_shape": config["batch_shape"],
            "dtype": config.get("dtype", "float32"),
            "sparse": False,
            "name": name,
        },
        "registered_name": None,
    }


def _functional(entry: Config, config: Config, notes: Notes, path: tuple[Step, ...]) -> Config:
    if entry.get("class_name") == "Model":
        notes.mend(None, "class name Model replaced by Functional", "Keras 3 refuses it")
    wiring = _wiring(config["layers"])
    layers: list[Config] = []
    findings = Findings()
    for item in config["layers"]:
        with findings.of(_name_of(item)):
            layers.extend(_called(item, wiring, notes, path))
    findings.check()
    kept = {
        "name": safe_name(str(config.get("name") or "model")),
        "trainable": bool(config.get("trainable", True)),
        "layers": layers,
        "input_layers": references(config["input_layers"], wiring),
        "output_layers": references(config["output_layers"], wiring),
    }
    return _model("Functional", kept)


def _called(item: Config, wiring: Wiring, notes: Notes, path: tuple[Step, ...]) -> list[Config]:
    """A layer of a graph with its calls, and a rescaling before it where it needs one."""
    old = as_layer(item, notes)
    new = translate_layer(old, notes, path)
    name = safe_name(str(old.get("name", new["config"].get("name"))))
    nodes = old.get("inbound_nodes") or []
    calls = [call(old, new["class_name"], node, wiring) for node in nodes]
    if not _is_bare(new):
        return [{**new, "name": name, "inbound_nodes": calls}]
    legacy_gates.note_rescaling(name, notes)
    added = f"{name}_rescaling"
    before = {**legacy_gates.rescaling(added), "name": added, "inbound_nodes": calls}
    calls = [_call_of(added, index) for index in range(len(calls))]
    return [before, {**new, "name": name, "inbound_nodes": calls}]


def _name_of(entry: Any) -> str:
    """What a serialised layer is called, for findings about it."""
    config = entry.get("config") if isinstance(entry, dict) else None
    named = config.get("name") if isinstance(config, dict) else None
    return str(entry.get("name") or named) if isinstance(entry, dict) else "?"


def _call_of(name: str, index: int) -> Config:
    config = {"shape": [None], "dtype": "float32", "keras_history": [name, index, 0]}
    return {
        "args": [{"class_name": "__keras_tensor__", "config": config}],
        "kwargs": {},
    }


def _is_bare(entry: Config) -> bool:
    is_activation = entry["class_name"] == "Activation"
    return is_activation and bool(entry["config"].get("activation") == legacy_gates.NAME)


def _wiring(layers: list[Config]) -> Wiring:
    first: dict[str, int] = {}
    functional: set[str] = set()
    for entry in layers:
        config = entry.get("config")
        if entry.get("class_name") not in _MODELS:
            continue
        name = safe_name(str(entry.get("name")))
        if isinstance(config, dict) and "input_layers" in config:
            functional.add(name)
            first[name] = 1
            continue
        inner = config.get("layers") if isinstance(config, dict) else config
        first[name] = 1 if isinstance(inner, list) and inner and _knows_input(inner[0]) else 0
    return Wiring(first, frozenset(functional))


def _knows_input(first: Config) -> bool:
    """Whether Keras 2 built the Sequential that begins with this layer before it was called."""
    config = first.get("config")
    if first.get("class_name") == "InputLayer":
        return True
    return isinstance(config, dict) and "batch_input_shape" in config


def translate_layer(entry: Any, notes: Notes, path: tuple[Step, ...]) -> Config:
    """One serialised layer of Keras 2, with all that it wraps.

    Raises:
        InvalidModel: it cannot be carried over exactly.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), (dict, list)):
        raise InvalidModel("The config holds a layer that is not described by a dictionary.")
    class_name = class_of(entry)
    if class_name in _MODELS:
        name = entry.get("name")
        if name is None and isinstance(entry["config"], dict):
            name = entry["config"].get("name")
        return translate_model(entry, notes, (*path, ("child", safe_name(str(name)))))
    old = entry["config"]
    if not isinstance(old, dict):
        raise InvalidModel(f"The config of a layer of class {class_name!r} is not a dictionary.")
    name = safe_name(str(old.get("name", entry.get("name"))))
    if name != old.get("name"):
        notes.mend(name, f"renamed from {old.get('name')!r}", "Keras 3 refuses slashes in names")
    if class_name != "ThresholdedReLU":
        check_class(name, {"class_name": class_name, **_origin(entry)})
    here = (*path, ("child", name))
    return _translate_plain(class_name, name, old, notes, here)


def _origin(entry: Config) -> Config:
    """Where a class says that it comes from; built-in classes moved between releases."""
    module = entry.get("module")
    if not isinstance(module, str) or entry.get("class_name") in (KNOWN_LAYERS | set(REASONS)):
        return {}
    return {"module": module, "registered_name": entry.get("registered_name")}


def _translate_plain(
    class_name: str, name: str, old: Config, notes: Notes, here: tuple[Step, ...]
) -> Config:
    rest = {key: value for key, value in old.items() if key not in (*WRAPPED, "cells")}
    config = layer_config(class_name, name, rest, notes)
    config["name"] = name
    if class_name == "InputLayer":
        shape = old.get("batch_input_shape", old.get("batch_shape"))
        if not isinstance(shape, list):
            raise refuse(name, "its input has no shape")
        config["batch_shape"] = shape
    elif class_name == "ThresholdedReLU":
        class_name = "ReLU"
        config["threshold"] = config.pop("theta", 1.0)
        notes.mend(
            name,
            "ThresholdedReLU written as ReLU with a threshold",
            "Keras 3 has only ReLU",
        )
    _translate_wrapped(class_name, name, old, config, notes, here)
    if class_name != "Activation":
        legacy_gates.note_scaling(class_name, config, here, notes)
    return _layer(class_name, config)


def _layer(class_name: str, config: Config) -> Config:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


def _translate_wrapped(
    class_name: str,
    name: str,
    old: Config,
    config: Config,
    notes: Notes,
    here: tuple[Step, ...],
) -> None:
    for key in WRAPPED:
        inner = old.get(key)
        if not isinstance(inner, dict):
            continue
        if "module" not in inner:
            notes.mend(
                name,
                "its wrapped layer given a module",
                "Keras 3 cannot load it without",
            )
        if class_name == "Bidirectional" and key == "layer":
            config[key] = _both_ways(inner, "backward_layer" in old, notes, here)
        else:
            config[key] = _wrapped(inner, (*here, (key, "")), notes)
    if isinstance(old.get("cells"), list):
        config["cells"] = [
            _wrapped(cell, (*here, ("cells", str(index))), notes)
            for index, cell in enumerate(old["cells"])
        ]


def _wrapped(inner: Config, here: tuple[Step, ...], notes: Notes) -> Config:
    class_name = class_of(inner)
    if class_name in _MODELS:
        return translate_model(inner, notes, here)
    old = inner.get("config")
    if not isinstance(old, dict):
        raise InvalidModel("The config holds a wrapped layer that is not described.")
    name = str(old.get("name"))
    check_class(name, {"class_name": class_name, **_origin(inner)})
    if class_name == "Activation" and old.get("activation") == legacy_gates.NAME:
        raise refuse(name, "a wrapped hard_sigmoid activation has no weights to scale")
    return _translate_plain(class_name, name, old, notes, here)


def _both_ways(inner: Config, has_backward: bool, notes: Notes, here: tuple[Step, ...]) -> Config:
    """The layer of a Bidirectional; its config stands for both directions unless told apart."""
    forward = _wrapped(inner, (*here, ("forward_layer", "")), notes)
    if not has_backward:
        config = forward["config"]
        path = (*here, ("backward_layer", ""))
        legacy_gates.note_scaling(str(forward["class_name"]), config, path, notes)
    return forward
