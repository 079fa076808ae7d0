"""Every object that a config names must be on a list: nothing else is ever looked up by Keras."""

from typing import Any

from app.domain.errors import InvalidModel
from app.intake import hub
from app.intake.allowed_names import (
    BARE_CLASSES,
    CLASSES,
    CONSTRAINTS,
    DTYPES,
    FUNCTION_MODULES,
    INITIALIZERS,
    REGULARIZERS,
    VALUES,
)
from app.intake.config import Config
from app.intake.known import ACTIVATIONS

_NAMED = (
    ("activation", ACTIVATIONS, "activations"),
    ("_initializer", INITIALIZERS, "initializers"),
    ("_regularizer", REGULARIZERS, "regularizers"),
    ("_constraint", CONSTRAINTS, "constraints"),
)
"""Settings by the end of their key, which Keras looks up by name alone."""
_FILES = ("vocabulary", "idf_weights")
"""Lists in a sound config; a text there is the name of a file that Keras would open."""


def check_allowed(name: str, entry: Config) -> None:
    """One dictionary of a layer's config.

    Raises:
        InvalidModel: it names what is not on the lists; says what was expected instead.
    """
    if "class_name" in entry and not hub.is_hub(entry):
        _check_class(name, entry)
    for key, value in entry.items():
        if isinstance(value, str):
            _check_named(name, key, value)
        elif key == "dtype" and isinstance(value, dict):
            _check_policy(name, value)


def is_allowed(entry: Config) -> bool:
    """Whether the exact pair of module and class is one that Keras may look up for a model."""
    class_name, module = entry.get("class_name"), entry.get("module")
    if not isinstance(class_name, str):
        return False
    if class_name in VALUES:
        return True
    if class_name == "function":
        return _is_activation(entry)
    if entry.get("registered_name") not in (None, class_name):
        return False
    if module is None:
        return class_name in BARE_CLASSES
    return isinstance(module, str) and class_name in CLASSES.get(module, ())


def _is_activation(entry: Config) -> bool:
    function, module = entry.get("config"), entry.get("module")
    named = entry.get("registered_name") in (None, "function", function)
    known = isinstance(function, str) and function in ACTIVATIONS
    return named and known and (module is None or module in FUNCTION_MODULES)


def _check_class(name: str, entry: Config) -> None:
    if is_allowed(entry):
        return
    called = entry.get("config") if entry.get("class_name") == "function" else None
    what = _short(called if isinstance(called, str) else entry.get("class_name"))
    module = entry.get("module")
    origin = "" if module is None else f" of {_short(module)}"
    registered = entry.get("registered_name")
    under = "" if registered in (None, entry.get("class_name")) else f" ({_short(registered)})"
    raise InvalidModel(
        f"Layer {name[:200]!r} cannot be used: it names {what}{origin}{under}. Expected layers, "
        "operations, activations, initializers, regularizers, constraints or dtype policies that "
        "Keras brings along and that compute part of a model. Replace it by a built-in one."
    )


def _check_named(name: str, key: str, value: str) -> None:
    for ending, known, kind in _NAMED:
        if key.endswith(ending) and value not in known:
            raise InvalidModel(
                f"Layer {name[:200]!r} cannot be used: its {key[:100]} is {_short(value)}, which "
                f"is none of the {kind} that Keras brings along. Replace it by a built-in one."
            )
    if key == "dtype" and value not in DTYPES and "_from_" not in value:
        raise InvalidModel(
            f"Layer {name[:200]!r} cannot be used: its dtype is {_short(value)}. Expected one of "
            "float32, float16, bfloat16, mixed_float16 and the like. Save the model again."
        )
    if key in _FILES:
        raise InvalidModel(
            f"Layer {name[:200]!r} cannot be used: its {key} names a file, {_short(value)}, which "
            "is never opened. Give the layer the words themselves as a list, and save the model "
            "again."
        )


def _check_policy(name: str, policy: Config) -> None:
    if not isinstance(policy.get("class_name"), str) or not isinstance(policy.get("config"), dict):
        raise InvalidModel(
            f"Layer {name[:200]!r} cannot be used: its dtype is {_short(policy)}; expected a dtype "
            "policy with a class and its config. Save the model again."
        )
    said = policy["config"].get("name")
    if said is not None and isinstance(said, str):
        _check_named(name, "dtype", said)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
