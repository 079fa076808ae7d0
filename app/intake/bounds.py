"""What building and running a model would take, bounded by its config before either is done."""

import math
from collections.abc import Iterator
from typing import Any

from app.domain.errors import InvalidModel
from app.intake.config import Config, Graph, Layer, Shape
from app.intake.variables import Variable

TENSOR_LIMIT = 2**28
"""Numbers in one tensor for one sample: 1 GiB of float32. Networks for images of 1024 x 1024
pixels stay below a quarter of it."""
LAYERS_LIMIT = 2_500
"""NASNetLarge, the largest of keras.applications by layers, has 1,041."""
CALLS_LIMIT = 50_000
"""Calls of layers, those inside a nested model counted for each call of it."""
NUMBER_LIMIT = 2**27
"""Sizes beyond it cannot belong to any model that can be uploaded."""

_FREE_NUMBERS = frozenset(
    [
        *("seed", "salt", "mask_value", "mask_token", "oov_token", "bin_boundaries", "value"),
        *("scale", "shared_object_id"),
    ]
)
"""Settings that are no sizes."""
_WEIGHT_SIZES = (
    *("units", "filters", "input_dim", "output_dim", "kernel_size", "depth_multiplier"),
    *("num_heads", "key_dim", "value_dim", "head_dim", "num_query_heads", "num_key_value_heads"),
)
"""Settings that are the length of an axis of some stored variable, or divide one."""


def check_graph_size(graph: Graph) -> None:
    """How many layers there are, and how often they are called.

    Raises:
        InvalidModel: too many; building them would take minutes.
    """
    layers = sum(1 for _ in graph.every_layer())
    if layers > LAYERS_LIMIT:
        raise InvalidModel(
            f"Expected at most {LAYERS_LIMIT:,} layers, nested ones included; the model has "
            f"{layers:,}. Join layers, or split the model, and save it again."
        )
    calls = _calls(graph, {})
    if calls > CALLS_LIMIT:
        raise InvalidModel(
            f"Expected at most {CALLS_LIMIT:,} calls of layers, those inside nested models counted "
            f"for each call; the model makes {calls:,}. Write the repeated part out, or make it "
            "smaller."
        )


def _calls(graph: Graph, known: dict[int, int]) -> int:
    if id(graph) not in known:
        known[id(graph)] = sum(
            max(1, len(layer.calls)) * (1 + (_calls(layer.inner, known) if layer.inner else 0))
            for layer in graph.layers
        )
    return known[id(graph)]


def check_tensor(name: str, shape: Shape | None) -> None:
    """The size of a tensor for one sample; axes of unknown length count as one.

    Raises:
        InvalidModel: it could not be held.
    """
    if shape is None:
        return
    size = math.prod(length for length in shape[1:] if length is not None)
    if size > TENSOR_LIMIT:
        raise InvalidModel(
            f"Layer {name[:200]!r}: by the config its output has the shape {_words(shape)}, which "
            f"is {_number(size)} numbers for each sample; at most {TENSOR_LIMIT:,} are accepted. "
            "Make the layer or the model's input smaller."
        )


def check_building(config: Any) -> None:
    """Shapes that a config says layers were built with; Keras would build them so again.

    Raises:
        InvalidModel: one is too large to be that of a tensor.
    """
    for path, value in _building(config, "model"):
        for shape in _shapes(value):
            if math.prod(shape) > TENSOR_LIMIT:
                raise InvalidModel(
                    f"Layer {path[:200]!r}: its build_config claims the shape {_words(shape)}, "
                    f"more than the {TENSOR_LIMIT:,} numbers that are accepted for one sample. "
                    "The file is damaged or made to do harm; save the model again."
                )


def _building(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        inner = value.get("config")
        named = inner.get("name") if isinstance(inner, dict) else None
        name = named if isinstance(named, str) else name
        for key, item in value.items():
            if key in ("build_config", "build_input_shape"):
                yield name, item
            else:
                yield from _building(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _building(item, name)


def _shapes(value: Any) -> Iterator[tuple[int, ...]]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _shapes(item)
    elif isinstance(value, list):
        yield tuple(abs(item) for item in value if type(item) is int)
        for item in value:
            yield from _shapes(item)


def check_numbers(layer: Layer) -> None:
    """Sizes in a layer's settings, whatever the layer is.

    Raises:
        InvalidModel: one is larger than any model's.
    """
    if layer.inner is not None:
        return
    for key, number in _numbers(layer.config, ""):
        if abs(number) > NUMBER_LIMIT and key not in _FREE_NUMBERS:
            raise InvalidModel(
                f"Layer {layer.name[:200]!r}: its setting {key[:100]} is {_number(number)}; at "
                f"most {NUMBER_LIMIT:,} is accepted. Make it smaller and save the model again."
            )


def _numbers(value: Any, key: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for inner_key, item in value.items():
            yield from _numbers(item, inner_key)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif type(value) is int:
        yield key, value


def check_weight_sizes(layer: Layer, variables: tuple[Variable, ...]) -> None:
    """Sizes that a layer's config calls for against the numbers that the file holds for it.

    Raises:
        InvalidModel: the layer would build more than is stored.
    """
    if layer.is_operation or "EinsumDense" in layer.class_name:
        return
    stored = sum(variable.size for variable in variables)
    for key, number in _numbers(layer.config, ""):
        if key in _WEIGHT_SIZES and number > max(stored, 1):
            raise InvalidModel(
                f"Layer {layer.name[:200]!r}: its setting {key} is {_number(number)}, but the "
                f"file holds {stored:,} numbers for all of its variables. The file is damaged, "
                "or its config and weights come from different models."
            )


def check_projection(layer: Layer, variables: tuple[Variable, ...]) -> None:
    """Layers that multiply several of their settings into one kernel.

    Raises:
        InvalidModel: the product is larger than what is stored.
    """
    stored = sum(variable.size for variable in variables)
    size = _projection(layer.class_name, layer.config)
    if size > max(stored, 1):
        raise InvalidModel(
            f"Layer {layer.name[:200]!r}: by its settings one of its kernels has at least "
            f"{_number(size)} numbers, but the file holds {stored:,} for all of its variables. "
            "The file is damaged, or its config and weights come from different models."
        )


def _projection(class_name: str, config: Config) -> int:
    if class_name == "MultiHeadAttention":
        return _product(config, "num_heads", "key_dim")
    if class_name in ("GroupQueryAttention", "GroupedQueryAttention"):
        return _product(config, "num_query_heads", "head_dim")
    if class_name in ("Embedding", "ReversibleEmbedding"):
        return _product(config, "input_dim", "output_dim")
    if class_name == "EinsumDense":
        shape = config.get("output_shape")
        lengths = shape if isinstance(shape, list) else [shape]
        equation = config.get("equation")
        kernel = _kernel_letters(equation) if isinstance(equation, str) else ""
        output = equation.split("->")[-1] if isinstance(equation, str) else ""
        own = zip(reversed(output), reversed(lengths), strict=False)
        return math.prod(n for letter, n in own if type(n) is int and letter in kernel)
    return 1


def _kernel_letters(equation: str) -> str:
    return equation.split("->")[0].split(",")[-1]


def _product(config: Config, *keys: str) -> int:
    found = [config.get(key) for key in keys]
    return math.prod(number for number in found if type(number) is int)


def _words(shape: Shape) -> str:
    return "[" + ", ".join("null" if n is None else _number(n) for n in shape[:8]) + "]"


def _number(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**15 else f"about 10^{len(str(abs(value))) - 1}"
