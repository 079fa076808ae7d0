"""Calls of layers: Keras 2's nested lists as Keras 3's serialised arguments."""

from dataclasses import dataclass
from typing import Any

from app.intake.config import Config
from app.intake.legacy.layers import CONV_RECURRENT, RECURRENT, safe_name
from app.intake.legacy.notes import refuse

_TAKES_STATE = RECURRENT | CONV_RECURRENT | {"Bidirectional"}


@dataclass(frozen=True)
class Wiring:
    """What one must know of a graph's layers to translate references to their outputs."""

    first_node: dict[str, int]
    """Keras 2 counts the calls of a nested model from 1, as it links itself up first."""
    functional: frozenset[str]
    """Nested Functional models: Keras 3 counts one call more where they are outputs."""


def call(layer: Config, class_name: str, node: Any, wiring: Wiring) -> Config:
    """One call of a layer, in Keras 3's style.

    Raises:
        InvalidModel: the call passes what Keras 3 cannot be passed.
    """
    name = str(layer.get("name"))
    if isinstance(node, dict) and "args" in node:
        return node
    kwargs = _kwargs(node)
    first = _unwrapped(_structure(node, name, wiring))
    passed = {key: _keyword(value, wiring) for key, value in kwargs.items()}
    if class_name in _TAKES_STATE and isinstance(first, list):
        if (layer.get("config") or {}).get("num_constants"):
            raise refuse(name, "it is called with constants")
        # Keras 2 put the initial state behind the input; Keras 3 wants it by name.
        passed["initial_state"] = first[1:]
        first = first[0]
    return {"args": [first], "kwargs": passed}


def references(value: Any, wiring: Wiring) -> Any:
    """`input_layers` or `output_layers`: a single tensor is no longer written as a list of one."""
    if isinstance(value, dict):
        return {key: references(item, wiring) for key, item in value.items()}
    if _is_reference(value):
        name, node, tensor = safe_name(value[0]), value[1], value[2]
        index = _index(name, node, wiring)
        return [name, index + (name in wiring.functional), tensor]
    if isinstance(value, list) and len(value) == 1:
        return references(value[0], wiring)
    return [references(item, wiring) for item in value]


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and type(value[1]) is int
        and (len(value) == 3 or isinstance(value[3], dict))
    )


def _index(name: str, node: int, wiring: Wiring) -> int:
    return max(0, node - wiring.first_node.get(name, 0))


def _tensor(value: list[Any], wiring: Wiring) -> Config:
    name, node, tensor = safe_name(value[0]), value[1], value[2]
    history = [name, _index(name, node, wiring), tensor]
    # Keras looks the tensor up by its history; the shape is not used.
    config = {"shape": [None], "dtype": "float32", "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": config}


def _structure(node: Any, layer: str, wiring: Wiring) -> Any:
    if _is_reference(node):
        if node[0] == "_CONSTANT_VALUE":
            raise refuse(layer, "it is called with a constant where a tensor was expected")
        return _tensor(node, wiring)
    if isinstance(node, dict):
        return {key: _structure(item, layer, wiring) for key, item in node.items()}
    if isinstance(node, list):
        return [_structure(item, layer, wiring) for item in node]
    raise refuse(layer, "the way it is called is not understood")


def _unwrapped(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _kwargs(node: Any) -> Config:
    if _is_reference(node):
        return dict(node[3]) if len(node) == 4 else {}
    items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for item in items:
        if found := _kwargs(item):
            return found
    return {}


def _keyword(value: Any, wiring: Wiring) -> Any:
    if _is_reference(value) and len(value) == 3:
        return _tensor(value, wiring)
    if isinstance(value, list):
        return [_keyword(item, wiring) for item in value]
    if isinstance(value, dict):
        return {key: _keyword(item, wiring) for key, item in value.items()}
    return value
