"""`.h5` files that Keras 3 itself wrote and cannot read back.

The `.h5` format leaves out where classes come from, so Keras 3.15 reads such configs the old way:
it takes the text "dot" (of Attention's score_mode) for a function of that name, and drops an axis
that is a list. With a module beside every class it reads them the new way, which is right.
"""

from typing import Any

from app.intake.config import Config
from app.intake.known import PYTHON_NAMES
from app.intake.legacy.notes import Notes

_FUNCTIONS = frozenset(
    [
        "add",
        "average",
        "concatenate",
        "dot",
        "maximum",
        "minimum",
        "multiply",
        "subtract",
        "serialize",
        "deserialize",
    ]
)
_MODULES = {"Functional": "keras.src.models.functional", "Sequential": "keras"}
_EXPORTED = {python: exported for exported, python in PYTHON_NAMES.items()}
_WHY = "Keras 3 misreads the setting in .h5 files that it wrote itself"


def with_modules(config: Config, notes: Notes) -> Config:
    """The config with modules, where Keras would misread it without; else the very same."""
    for layer in _layers(config):
        if setting := _misread(layer["config"]):
            notes.mend(str(layer["config"].get("name")), f"module given for {setting!r}", _WHY)
    return _add(config) if notes.mends else config


def _layers(config: Config) -> list[Config]:
    inner = config.get("config")
    listed = inner.get("layers") if isinstance(inner, dict) else None
    found: list[Config] = []
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("config"), dict):
            if "module" not in entry:
                found.append(entry)
            found.extend(_layers(entry))
    return found


def _misread(config: Config) -> str | None:
    for key, value in config.items():
        if key != "name" and isinstance(value, str) and value in _FUNCTIONS:
            return key
    axis = config.get("axis")
    return "axis" if isinstance(axis, list) and len(axis) > 1 else None


def _add(entry: Config) -> Config:
    config: Any = entry["config"]
    if isinstance(config.get("layers"), list):
        config = {**config, "layers": [_add(item) for item in config["layers"]]}
    if "module" in entry:
        return {**entry, "config": config}
    return {**entry, "config": config, **_origin(entry["class_name"])}


def _origin(class_name: str) -> Config:
    """Where Keras 3 finds a class that an `.h5` file calls so."""
    if ">" in class_name:
        package, name = class_name.rsplit(">", 1)
        return {"module": package, "class_name": name, "registered_name": class_name}
    exported = _EXPORTED.get(class_name, class_name)
    module = _MODULES.get(class_name, "keras.layers")
    registered = "Functional" if class_name == "Functional" else None
    return {"module": module, "class_name": exported, "registered_name": registered}
