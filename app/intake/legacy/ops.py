"""Raw TensorFlow functions in a Keras 2 graph, as the Keras layers that compute the same.

`x * 2.0` on a Keras 2 tensor was recorded as a TFOpLambda. The few that are common have an exact
equal; all others are refused with the layers that cannot be taken.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.intake.config import Config
from app.intake.legacy.notes import Notes

_ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "nn.relu": "relu",
        "nn.relu6": "relu6",
        "nn.sigmoid": "sigmoid",
        "math.sigmoid": "sigmoid",
        "nn.tanh": "tanh",
        "math.tanh": "tanh",
        "nn.elu": "elu",
        "nn.silu": "silu",
        "nn.swish": "silu",
        "nn.softplus": "softplus",
        "math.softplus": "softplus",
    }
)
_MERGES: Mapping[str, str] = MappingProxyType(
    {
        "__operators__.add": "Add",
        "math.add": "Add",
        "math.multiply": "Multiply",
        "math.subtract": "Subtract",
    }
)
_WHY = "Keras 3 cannot load raw TensorFlow functions; the layer computes the same"


def as_layer(entry: Any, notes: Notes) -> Any:
    """A TFOpLambda as a layer with the same effect; anything else as it is."""
    if not isinstance(entry, dict) or entry.get("class_name") != "TFOpLambda":
        return entry
    function = (entry.get("config") or {}).get("function")
    nodes = entry.get("inbound_nodes") or []
    found = _single_call(nodes)
    if not isinstance(function, str) or found is None:
        return entry
    tensor, kwargs = found
    name, other = str(entry.get("name")), kwargs.get("y")
    if set(kwargs) - {"y", "name"}:
        return entry
    if function in _ACTIVATIONS and other is None:
        new = _layer("Activation", name, {"activation": _ACTIVATIONS[function]}, [[tensor]])
    elif function in _MERGES and isinstance(other, list) and _is_tensor(other):
        new = _layer(_MERGES[function], name, {}, [[tensor, [*other, {}]]])
    elif (settings := _rescaling(function, other)) is not None:
        new = _layer("Rescaling", name, settings, [[tensor]])
    else:
        return entry
    notes.mend(name, f"tf.{function} written as a {new['class_name']} layer", _WHY)
    return new


def _layer(class_name: str, name: str, settings: Config, nodes: list[Any]) -> Config:
    config = {"name": name, "trainable": True, **settings}
    return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": nodes}


def _single_call(nodes: list[Any]) -> tuple[list[Any], Config] | None:
    node = nodes[0] if len(nodes) == 1 else None
    while isinstance(node, list) and len(node) == 1:
        node = node[0]
    if not isinstance(node, list) or len(node) != 4 or not isinstance(node[3], dict):
        return None
    if not isinstance(node[0], str) or node[0] == "_CONSTANT_VALUE":
        return None
    return [*node[:3], {}], node[3]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def _rescaling(function: str, number: Any) -> Config | None:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    if function in ("__operators__.add", "math.add"):
        return {"scale": 1.0, "offset": float(number)}
    if function == "math.subtract":
        return {"scale": 1.0, "offset": -float(number)}
    if function == "math.multiply":
        return {"scale": float(number), "offset": 0.0}
    if function == "math.truediv" and number:
        return {"scale": 1.0 / float(number), "offset": 0.0}
    return None
