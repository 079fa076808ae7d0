"""What the engine reads from a Keras model: its calls in order, its variables by key."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal

KERNELS = frozenset(
    {"kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings"}
)
"""Names of the variables that granularity weight counts: no biases, no normalisation."""


def ensure_supported(model: Any) -> None:
    """Refuse what has no graph to walk, naming the reason.

    Raises:
        EngineRefusal: not a Keras model, subclassed, not built, or with a Lambda layer.
    """
    if not isinstance(model, keras.Model):
        raise EngineRefusal(f"Expected a Keras model, received {type(model).__name__}.")
    if isinstance(model, keras.Sequential):
        if getattr(model, "_functional", None) is None:
            raise EngineRefusal(
                f"Sequential model '{model.name}' is not built, so its shapes are unknown: give "
                "it an Input layer, or call it once before saving."
            )
    elif not hasattr(model, "_nodes_by_depth"):
        raise EngineRefusal(
            f"Model '{model.name}' is a subclass of keras.Model ({type(model).__name__}), whose "
            "graph cannot be read: build it as a Sequential or Functional model."
        )
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.Lambda):
            raise EngineRefusal(
                f"Layer '{layer.name}' is a Lambda layer: it carries Python code, which is never "
                "run here. Replace it by a Keras layer or operation."
            )


def _all_layers(model: Any) -> Iterator[Any]:
    yield from model._flatten_layers(include_self=False, recursive=True)


def is_graph(layer: Any) -> bool:
    """Whether `layer` is a model with a graph of its own."""
    return hasattr(layer, "_nodes_by_depth") or getattr(layer, "_functional", None) is not None


def graph_of(model: Any) -> Any:
    """The object that holds a model's graph: `inputs`, `outputs` and the calls between them."""
    return getattr(model, "_functional", None) or model


def data_tensors(node: Any) -> list[Any]:
    """The tensors that a call is given, but for the masks that Keras hands along with them.

    Masks come last: they are named arguments.
    """
    masks = {id(t) for t in keras.tree.flatten(node.arguments.kwargs.get("mask"))}
    tensors = list(node.input_tensors)
    while tensors and id(tensors[-1]) in masks:
        tensors.pop()
    return tensors


def plain(model: Any) -> Any:
    """The model as a Sequential or Functional one; a subclass with a graph shares its layers."""
    if isinstance(model, keras.Sequential) or type(model).__name__ in ("Functional", "Model"):
        return model
    return keras.Model(model._inputs_struct, model._outputs_struct, name=model.name)


def children(layer: Any) -> list[tuple[str, Any]]:
    """Layers inside a layer, by the path of their config within the layer's own.

    Those of models by their names, those of wrappers and cells by the setting that holds them.
    """
    if is_graph(layer):
        return [(inner.name, inner) for inner in graph_of(layer)._operations]
    if isinstance(layer, keras.layers.Bidirectional):
        return [("layer", layer.forward_layer), ("backward_layer", layer.backward_layer)]
    if isinstance(layer, keras.layers.StackedRNNCells):
        return [(f"cells.{number}", cell) for number, cell in enumerate(layer.cells)]
    if type(layer) is keras.layers.RNN:
        return [("cell", layer.cell)]
    if isinstance(layer, keras.layers.Wrapper):
        return [("layer", layer.layer)]
    return []


def calls(model: Any) -> list[Any]:
    """The calls (Keras nodes) of a model's graph, inputs first, in model order."""
    by_depth = graph_of(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def leaves(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer that is no model itself, by its path `outer/inner`; a shared one once."""
    seen: set[int] = set()
    for key, layer in _leaves(model, prefix):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield key, layer


def _leaves(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        if is_graph(layer):
            yield from _leaves(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


def variable_keys(model: Any) -> dict[str, Any]:
    """Every weight of the model by a key that clones and reloaded files share.

    The key is `layer/position/name`, as in `dense_1/0/kernel`. A weight that several layers share
    appears once, under the first of them.
    """
    seen: set[int] = set()
    found: dict[str, Any] = {}
    for layer in model.layers:
        for position, variable in enumerate(layer.weights):
            if id(variable) not in seen:
                seen.add(id(variable))
                found[f"{layer.name}/{position}/{variable.name}"] = variable
    return found


def kernels(model: Any) -> dict[str, Any]:
    """The weights that granularity weight counts, by key, in model order."""
    return {
        key: variable
        for key, variable in variable_keys(model).items()
        if variable.name in KERNELS and len(variable.shape) > 1 and is_float(variable)
    }


def is_float(variable: Any) -> bool:
    """Whether a variable holds floating-point numbers (a quantised kernel does not)."""
    return "float" in str(keras.backend.standardize_dtype(variable.dtype))


def layer_of(key: str) -> str:
    """The layer's name in a variable key."""
    return key.rsplit("/", 2)[0]


def values(variable: Any) -> NDArray[Any]:
    """A variable's numbers; read them only, some backends share the memory."""
    found: NDArray[Any] = keras.ops.convert_to_numpy(variable)
    return found


def size_of(variable: Any) -> int:
    """Number of entries."""
    return math.prod(int(size) for size in variable.shape)


UNIT_SETTINGS = ("units", "filters", "output_dim")


def output_units(layer: Any) -> int | None:
    """How many output units a layer's settings name, None where it has no such notion."""
    for setting in UNIT_SETTINGS:
        value = getattr(layer, setting, None)
        if isinstance(value, int):
            return value
    return None
