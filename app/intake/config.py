"""The model's config: bounded JSON, and the graph that it describes.

Only configs in Keras 3's own style are read here; those of Keras 2 are translated first
(`app.intake.legacy`).
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.domain.errors import InvalidModel

Shape = tuple[int | None, ...]
Config = dict[str, Any]

MODEL_CLASSES = frozenset({"Functional", "Sequential", "Model"})
DEPTH_LIMIT = 200
LAYER_LIMIT = 20_000
NODE_LIMIT = 1_000_000
"""Values, keys not counted; EfficientNetV2L's config has some 90,000."""
CONFIG_LIMIT_BYTES = 32 * 2**20
INTEGER_DIGITS = 20
NAME_LIMIT = 2_000
"""Characters of a key, or of the name of a class or layer."""
_BUILDING = frozenset({"build_config", "compile_config"})


@dataclass(frozen=True)
class TensorRef:
    """One tensor of the graph: an output of one call of a layer."""

    layer: str
    node: int
    tensor: int
    shape: Shape | None = None
    """As recorded in the file, where it is."""
    dtype: str | None = None
    """As recorded in the file, where it is."""


@dataclass(frozen=True)
class Layer:
    """One layer of a graph, and every place where it is called."""

    name: str
    class_name: str
    config: Config
    entry: Config
    """The whole serialised layer, of which `config` is a part."""
    calls: tuple[tuple[TensorRef, ...], ...] = ()
    inner: "Graph | None" = None

    @property
    def is_operation(self) -> bool:
        """A function of keras.ops recorded in the graph; Keras does not count it as a layer."""
        return str(self.entry.get("module", "")).startswith("keras.src.ops")


@dataclass(frozen=True)
class Graph:
    """A Sequential or Functional model."""

    name: str
    sequential: bool
    layers: tuple[Layer, ...]
    inputs: tuple[TensorRef, ...]
    outputs: tuple[TensorRef, ...]

    def every_layer(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """All layers, those of nested models too, each with its path: `outer/inner`."""
        for layer in self.layers:
            yield f"{path}{layer.name}", layer
            if layer.inner is not None:
                yield from layer.inner.every_layer(f"{path}{layer.name[:200]}/")


def parse_json(text: bytes | str, what: str) -> Config:
    """JSON from outside, as a dictionary.

    Raises:
        InvalidModel: it is no JSON object, nests too deeply, or holds NaN.
    """

    def refuse_constant(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    if len(text) > CONFIG_LIMIT_BYTES:
        raise InvalidModel(
            f"{what} has {len(text):,} bytes; at most {CONFIG_LIMIT_BYTES:,} are read. This is no "
            "config that Keras wrote. Save the model again."
        )
    try:
        _check_nodes(text)
        value = json.loads(text, parse_constant=refuse_constant, parse_int=_integer)
        check_depth(value)
    except RecursionError as error:
        raise InvalidModel(
            f"{what} cannot be read as JSON: it is nested deeper than {DEPTH_LIMIT} levels; no "
            "config that Keras wrote is. Save the model again."
        ) from error
    except ValueError as error:
        raise InvalidModel(
            f"{what} cannot be read as JSON ({error}); the file is damaged. Save the model again."
        ) from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{what} holds a {type(value).__name__}; an object was expected.")
    return value


def _check_nodes(text: bytes | str) -> None:
    """Refuse too many values before they are in memory; commas within texts count as well."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    nodes = sum(raw.count(mark) for mark in (b",", b"[", b"{"))
    if nodes > NODE_LIMIT:
        raise ValueError(f"it holds {nodes:,} values, and at most {NODE_LIMIT:,} are read")


def _integer(digits: str) -> int:
    if len(digits) > INTEGER_DIGITS:
        raise ValueError(f"it holds an integer of {len(digits):,} digits")
    return int(digits)


def without_building(value: Any) -> Any:
    """A config without what Keras would build or compile before the graph says so.

    All layers are built by their calls; a config may claim other shapes than these.
    """
    if isinstance(value, dict):
        drops = _BUILDING if "class_name" in value else frozenset[str]()
        return {key: without_building(item) for key, item in value.items() if key not in drops}
    if isinstance(value, list):
        return [without_building(item) for item in value]
    return value


def check_depth(value: Any) -> None:
    """Every later walk over the config may recurse, so its depth is bounded here.

    Raises:
        ValueError: the value nests deeper than `DEPTH_LIMIT`, or a key is too long.
    """
    level = [value]
    for _ in range(DEPTH_LIMIT):
        if not level:
            return
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if any(len(key) > NAME_LIMIT for key in item):
                    raise ValueError(f"a key has more than {NAME_LIMIT:,} characters")
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels")


def parse_graph(entry: Config) -> Graph:
    """The graph of a serialised Sequential or Functional model, in Keras 3's style.

    Raises:
        InvalidModel: the config does not describe such a graph.
    """
    config = entry.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise InvalidModel(
            f"The model is of class {entry.get('class_name')!r} and its config lists no layers. "
            "Only Sequential and Functional models can be pruned; rebuild it as one of these."
        )
    if len(config["layers"]) > LAYER_LIMIT:
        raise InvalidModel(f"The config lists {len(config['layers'])} layers; that is too many.")
    layers = tuple(_parse_layer(item) for item in config["layers"])
    names = [layer.name for layer in layers]
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InvalidModel(f"The config names two layers {twice!r}; names must be unique.")
    name = str(config.get("name", "model"))
    if "input_layers" not in config:
        return Graph(name, True, layers, (), ())
    inputs, outputs = (_references(config[key]) for key in ("input_layers", "output_layers"))
    return Graph(name, False, layers, inputs, outputs)


def _parse_layer(entry: Any) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise InvalidModel("The config holds a layer that is not described by a dictionary.")
    config = entry["config"]
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not isinstance(entry.get("class_name"), str):
        raise InvalidModel("The config holds a layer without a name or a class.")
    if not isinstance(config.get("name", name), str):
        raise InvalidModel(f"Layer {name[:200]!r}: the name in its config is not a text.")
    if max(len(name), len(entry["class_name"])) > NAME_LIMIT:
        raise InvalidModel(
            f"The config holds a layer whose name or class has more than {NAME_LIMIT:,} "
            "characters. Rename it and save the model again."
        )
    nodes = entry.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise InvalidModel(f"Layer {name!r}: its inbound nodes are not a list.")
    calls = tuple(tuple(_tensors(node)) for node in nodes)
    inner = parse_graph(entry) if entry["class_name"] in MODEL_CLASSES else None
    return Layer(name, entry["class_name"], config, entry, calls, inner)


def _tensors(value: Any) -> Iterator[TensorRef]:
    if isinstance(value, dict):
        if is_tensor(value):
            config = value["config"]
            layer, node, tensor = config["keras_history"]
            dtype = config.get("dtype")
            dtype = dtype if isinstance(dtype, str) else None
            shape = as_shape(config.get("shape"))
            yield TensorRef(str(layer), int(node), int(tensor), shape, dtype)
        else:
            # A call keeps the order of its arguments; Keras flattens other dictionaries by key.
            is_call = "args" in value and "kwargs" in value
            keywords = value.get("kwargs") if is_call else None
            if isinstance(keywords, dict):
                yield from _tensors(value["args"])
                for item in keywords.values():
                    yield from _tensors(item)
            else:
                for key in sorted(value):
                    yield from _tensors(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def is_tensor(value: Any) -> bool:
    """Whether an argument of a call is a tensor of the graph."""
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _references(value: Any) -> tuple[TensorRef, ...]:
    if isinstance(value, dict):
        # Keras flattens dictionaries in the order of their keys, whatever the file's order.
        return tuple(ref for key in sorted(value) for ref in _references(value[key]))
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        return (TensorRef(value[0], int(value[1]), int(value[2])),)
    if isinstance(value, list):
        return tuple(ref for item in value for ref in _references(item))
    raise InvalidModel("The config's list of inputs or outputs cannot be read.")


def as_shape(value: Any) -> Shape | None:
    """A shape from JSON; `None` where it is not one."""
    if not isinstance(value, (list, tuple)):
        return None
    if all(item is None or (type(item) is int and item >= 0) for item in value):
        return tuple(value)
    return None


def input_layers(graph: Graph) -> tuple[Layer, ...]:
    """The InputLayers of a graph, in the order in which it takes its inputs."""
    by_name = {layer.name: layer for layer in graph.layers if layer.class_name == "InputLayer"}
    if graph.sequential:
        return tuple(by_name.values())[:1]
    return tuple(by_name[ref.layer] for ref in graph.inputs if ref.layer in by_name)


def input_shape(layer: Layer) -> Shape | None:
    """The shape of an InputLayer, batch axis first."""
    shape = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
    return as_shape(shape)


def dtype_name(config: Config) -> str | None:
    """The dtype or dtype policy that a config names."""
    dtype = config.get("dtype")
    if isinstance(dtype, dict):
        inner = dtype.get("config")
        dtype = inner.get("name") if isinstance(inner, dict) else None
    return dtype if isinstance(dtype, str) else None
