"""Taps: what layers are called with and answer, told while a model runs, whatever it is nested in.

Keras has no hooks: for the time of a tap, single layers have a `call` of their own that tells and
then does what it always did.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from workers.engine import graph
from workers.engine.reading import Reader, reader_of

_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
)
_LAYERS_BEHIND = (
    *_ACTIVATIONS,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.Identity,
)
_OPERATIONS_BEHIND = frozenset(
    {"ReLU", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Softplus"}
    | {"Sigmoid", "HardSigmoid", "HardSilu", "Tanh", "HardTanh", "Mish"}
)
"""What may stand between a layer and the activations by which its units are judged."""


@contextmanager
def inputs_tapped(model: Any, tell: Callable[[Any, Any], None]) -> Iterator[None]:
    """`tell(variable, squares)` what each kernel reads (`reading.Squares`), at every call."""
    with ExitStack() as taps:
        for layer in _reachable(model):
            if (reader := reader_of(layer)) is not None:
                taps.enter_context(instead(layer, "call", _telling(layer, reader, tell)))
        yield


def _telling(layer: Any, reader: Reader, tell: Callable[[Any, Any], None]) -> Callable[..., Any]:
    call = layer.call

    def telling(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else next(iter(kwargs.values()))
        for variable, squares in reader(layer, call, x):
            tell(variable, squares)
        return call(*args, **kwargs)

    return telling


@contextmanager
def outputs_tapped(model: Any, tell: Callable[[Any, Any], None]) -> Iterator[None]:
    """`tell(layer, activations)` of each layer with weights, from behind what follows it.

    What follows is a chain of batch normalisation, elementwise activation and dropout, as far as
    each tensor in it is read by the next alone. Told is the answer of the last activation in it,
    the layer's own included, or where there is none, that of the whole chain.
    """
    with ExitStack() as taps:
        for one in graphs(model):
            run = one._run_through_graph
            taps.enter_context(instead(one, "_run_through_graph", _watched(one, run, tell)))
        yield


def _watched(
    model: Any, run: Callable[..., Any], tell: Callable[[Any, Any], None]
) -> Callable[..., Any]:
    judged = {id(_judged(chain)): chain[0].operation for chain in chains(model)}
    nodes = [node for node in graph.calls(model) if not node.is_input]

    def watched(inputs: Any, operation_fn: Callable[[Any], Any], call_fn: Any = None) -> Any:
        # Keras asks for the operation of every node, in this order.
        coming = iter(nodes)

        def watching(operation: Any) -> Callable[..., Any]:
            layer = judged.get(id(next(coming)))
            operate: Callable[..., Any] = operation_fn(operation)
            if layer is None:
                return operate

            def told(*args: Any, **kwargs: Any) -> Any:
                answer = operate(*args, **kwargs)
                tell(layer, keras.tree.flatten(answer)[0])
                return answer

            return told

        return run(inputs, watching, call_fn)

    return watched


def chains(model: Any) -> list[list[Any]]:
    """For each call of a layer with units in a model's own graph: its node, and those behind it."""
    nodes = [node for node in graph.calls(model) if not node.is_input]
    readers: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node)
    # What leaves the model is read by somebody outside.
    for tensor in graph_of(model).outputs:
        readers.setdefault(id(tensor), []).append(None)
    found = []
    for node in nodes:
        if _has_units(node.operation) and len(node.outputs[0].shape) > 1:
            chain = [node]
            while len(next_ := readers.get(id(chain[-1].outputs[0]), [])) == 1 and _behind(*next_):
                chain += next_
            found.append(chain)
    return found


def _judged(chain: list[Any]) -> Any:
    """The node of a chain that answers the activations by which the first one's units are judged.

    A normalisation behind the last activation would hide its zeros.
    """
    activated = [node for node in chain if _is_activated(node.operation)]
    return activated[-1] if activated else chain[-1]


def _is_activated(operation: Any) -> bool:
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ in _OPERATIONS_BEHIND
    own = getattr(operation, "activation", None)
    return isinstance(operation, _ACTIVATIONS) or own not in (None, keras.activations.linear)


def _has_units(operation: Any) -> bool:
    """Whether it is a layer with matrices, rather than a normalisation or a whole model."""
    if not isinstance(operation, keras.layers.Layer) or graph.is_graph(operation):
        return False
    return any(len(variable.shape) > 1 for variable in operation.weights) and not isinstance(
        operation, _LAYERS_BEHIND
    )


def _behind(node: Any) -> bool:
    if node is None:
        return False
    operation = node.operation
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, _LAYERS_BEHIND)
    return type(operation).__name__ in _OPERATIONS_BEHIND


def graph_of(model: Any) -> Any:
    """The model's graph object: a Sequential model keeps it apart."""
    return getattr(model, "_functional", None) or model


def graphs(model: Any) -> Iterable[Any]:
    """The graph objects of a model and of all models within it."""
    found = [model, *(layer for layer in _reachable(model) if graph.is_graph(layer))]
    return {id(one): one for one in map(graph_of, found)}.values()


def _reachable(layer: Any) -> list[Any]:
    """All layers below, each once; not those that a TimeDistributed runs in its own way."""
    found: dict[int, Any] = {}
    waiting = [layer]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            if not isinstance(one, keras.layers.TimeDistributed):
                waiting.extend(one._flatten_layers(include_self=False, recursive=False))
    return list(found.values())


@contextmanager
def instead(thing: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`function` in the place of a method of one object; Keras does not track it."""
    object.__setattr__(thing, name, function)
    try:
        yield
    finally:
        object.__delattr__(thing, name)
