"""A model built anew, call by call, of stock layers where those of KerasHub stood."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from workers.engine import graph
from workers.engine.inlining.names import Names, joined, part, snake
from workers.engine.inlining.operations import again, counted, input_of
from workers.engine.inlining.trace import (
    CannotInline,
    Lengths,
    Trace,
    is_hub,
    table_of,
    trace,
    words,
)

Named = Callable[[Any], str]
"""What the twin of a layer or operation is to be called."""
Expansion = Callable[["Builder", Any, str, list[Any], dict[str, Any]], Any]
"""A layer's call by stock layers: given the builder, layer, name and arguments; the outputs."""


def holds_hub(model: Any) -> bool:
    """Whether a model is one of KerasHub's, or any layer at any depth is."""
    return any(is_hub(each) for each in model._flatten_layers())


class Builder:
    """Twins of the layers of one model; `stays` says which of KerasHub's remain, and why."""

    def __init__(self, expansions: Mapping[str, Expansion]) -> None:
        self._expansions = expansions
        self._names = Names()
        self._twins: dict[Any, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []
        self._variables: list[tuple[Any, Any, float]] = []
        self._counted: dict[tuple[int, int | None], Any] = {}
        self._owners: dict[int, Any] = {}
        self.stays: dict[str, str] = {}

    # --- models ----------------------------------------------------------------------------
    def model(self, model: Any) -> Any:
        """A Functional twin of a model, without its weights."""
        for each in model._flatten_layers():
            own = [*each._trainable_variables, *each._non_trainable_variables]
            self._owners |= {id(variable): each for variable in own}
        inner = graph.graph_of(model)
        known = {id(tensor): self._input(tensor) for tensor in inner.inputs}
        self.replay(_calls(model), known, _name)

        def twin_of(tensor: Any) -> Any:
            return known[id(tensor)]

        return keras.Model(
            keras.tree.map_structure(twin_of, inner._inputs_struct),
            keras.tree.map_structure(twin_of, inner._outputs_struct),
            name=model.name,
        )

    def _input(self, tensor: Any) -> Any:
        config = tensor._keras_history.operation.get_config()
        config["name"] = self._names.take(config["name"])
        return keras.layers.InputLayer.from_config(config).output

    def _nested(self, model: Any, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if graph.plain(model) is model and path == model.name:
            if not holds_hub(model):
                return self.stock(model, path)(*args, **kwargs)
            if id(model) not in self._twins:
                outer, self._names = self._names, Names()
                self._twins[id(model)] = self.model(model)
                self._names = outer
                self._names.take(model.name)
            return self._twins[id(model)](*args, **kwargs)
        # The settings of a backbone are no graph, and those of a model inside a layer do not say
        # its shapes: their calls go into the graph around them.
        named = _name if path == model.name else lambda each: joined(path, each.name)
        inner = graph.graph_of(model)
        given = keras.tree.flatten(args[0] if len(args) == 1 else list(args))
        known = {id(t): value for t, value in zip(inner.inputs, given, strict=True)}
        self.replay(_calls(model), known, named)
        return keras.tree.map_structure(lambda tensor: known[id(tensor)], inner._outputs_struct)

    # --- calls -----------------------------------------------------------------------------
    def replay(
        self,
        nodes: Iterable[Any],
        known: dict[int, Any],
        named: Named,
        lengths: Lengths | None = None,
    ) -> None:
        """Make recorded calls again; `known` maps their tensors to those of the new graph.

        `lengths`: what unknown lengths stand as in calls that a trace recorded.
        """
        for node in nodes:
            operation = node.operation
            args, kwargs = _arguments(node, known, traced=lengths is not None)
            table = table_of(node)
            if table is not None:
                positions = [*args, *kwargs.values()][1]
                result = self.rows(self._owners[id(table)], table, named(operation), positions)
            elif isinstance(operation, keras.layers.Layer):
                result = self.call(operation, named(operation), args, kwargs)
            else:
                take = self._names.take
                result = again(operation, named(operation), take, args, kwargs, lengths)
            for old, new in zip(node.output_tensors, keras.tree.flatten(result), strict=True):
                known[id(old)] = new

    def call(self, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A layer's outputs in the new graph: by stock layers, if that can be had.

        Raises:
            CannotInline: it can neither be replaced nor made from its config.
        """
        if graph.is_graph(layer):
            return self._nested(layer, path, args, kwargs)
        if type(layer) is keras.layers.Identity:
            return args[0]
        if not is_hub(layer):
            return self._stock_call(layer, path, args, kwargs)
        try:
            expansion = self._expansions.get(type(layer).__name__)
            if expansion is not None:
                return expansion(self, layer, path, args, kwargs)
            return self._traced(layer, path, args, kwargs)
        except CannotInline as reason:
            said = f"{type(layer).__name__} of KerasHub stays as it is: {reason}"
            try:
                result = self.stock(layer, path)(*args, **kwargs)
            except Exception as error:
                raise CannotInline(f"{said}; and it cannot be made from its config") from error
            self.stays[path] = said
            return result

    def _traced(self, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        inner = list(layer._flatten_layers(include_self=False))
        trains = "training" in inspect.signature(layer.call).parameters
        if trains:
            if not inner:
                raise CannotInline("it has code of its own for training")
            kwargs = {"training": None} | kwargs
        found = trace(layer, layer.call, args, kwargs)
        if trains and kwargs["training"] is None:
            other = trace(layer, layer.call, args, kwargs | {"training": True})
            if _kinds(found) != _kinds(other):
                raise CannotInline("it has code of its own for training")
        held = {id(v) for each in inner for v in each.weights}
        held |= {id(table_of(node)) for node in found.nodes}
        own = [v.name for v in layer.weights if id(v) not in held]
        if own:
            raise CannotInline(f"it has weights of its own ({', '.join(own)})")
        return self._or_nothing(found, lambda each: joined(path, part(each, layer)))

    def _or_nothing(self, found: Trace, named: Named) -> Any:
        """What a trace wrote down, or CannotInline and nothing of it."""
        twins, stays = dict(self._twins), dict(self.stays)
        pairs, variables = len(self._pairs), len(self._variables)
        try:
            return self.emit(found, named)
        except Exception as error:
            self._twins, self.stays = twins, stays
            del self._pairs[pairs:], self._variables[variables:]
            if isinstance(error, CannotInline):
                raise
            raise CannotInline(f"its calls cannot be made again ({words(error)})") from error

    def emit(self, found: Trace, named: Named) -> Any:
        """What a trace wrote down, in the new graph."""
        known = dict(found.given)
        if found.positions is not None:
            first = self.positions(next(iter(found.given.values())))[0]
            first._keras_history.operation.name = self._names.take("positions_of_one")
            known[id(found.positions)] = first
        self.replay(found.nodes, known, named, found.lengths)
        return keras.tree.map_structure(lambda each: known.get(id(each), each), found.outputs)

    def positions(self, tensor: Any, length: int | None = None) -> Any:
        """0, 1, … of each sample, (batch, length): along `tensor`'s axis 1, or so many.

        Raises:
            CannotInline: no input of the model is known to be as long.
        """
        source = input_of(tensor, same_length=length is None)
        if length is None and (len(source.shape) < 2 or source.shape[1] != tensor.shape[1]):
            raise CannotInline("the length of its input is not that of the model's input")
        key = (id(source), length)
        if key not in self._counted:
            self._counted[key] = counted(source, length, self._names.take)
        return self._counted[key]

    def take(self, name: str) -> str:
        """The name, made unique, for a layer that stands for no other."""
        return self._names.take(name)

    # --- layers ----------------------------------------------------------------------------
    def stock(self, layer: Any, path: str, kind: Any = None, **settings: Any) -> Any:
        """The twin of a layer: its class, or `kind`, with its settings and later its weights."""
        if id(layer) not in self._twins:
            config = layer.get_config() | settings | {"name": self._names.take(path)}
            twin = (kind or type(layer)).from_config(config)
            self._twins[id(layer)] = twin
            self._pairs.append((layer, twin))
        return self._twins[id(layer)]

    def fresh(self, owner: Any, role: str, make: Callable[[str], Any], path: str) -> Any:
        """A layer that stands for part of another one, one per `owner` and `role`."""
        key = (id(owner), role)
        if key not in self._twins:
            self._twins[key] = make(self._names.take(path))
        return self._twins[key]

    def _stock_call(self, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        activation = getattr(layer, "activation", None)
        if not (inspect.isfunction(activation) and is_hub(activation)):
            return self.stock(layer, path)(*args, **kwargs)
        # The function would be looked up in KerasHub by whoever loads the model.
        output = self.stock(layer, path, activation="linear")(*args, **kwargs)
        found = trace(layer, activation, [output], {})
        return self.emit(found, lambda each: joined(path, snake(type(each).__name__)))

    def rows(self, layer: Any, table: Any, path: str, positions: Any) -> Any:
        """Rows of a layer's variable (…, rows, dimensions), as an Embedding."""
        dimensions = int(table.shape[-1])
        count = int(np.prod(table.shape)) // dimensions
        policy = layer.dtype_policy

        def make(name: str) -> Any:
            return keras.layers.Embedding(count, dimensions, dtype=policy, name=name)

        twin = self.fresh(table, "rows", make, path)
        found = twin(positions)
        self.weight(layer, table, twin, twin.embeddings)
        return found

    # --- weights ---------------------------------------------------------------------------
    def weight(self, layer: Any, source: Any, twin: Any, target: Any, plus: float = 0.0) -> None:
        """A variable of `layer` that a fresh layer takes over, in its own shape."""
        self._variables.append((source, target, plus))
        twin.trainable = layer.trainable

    def copy_weights(self) -> None:
        """Give every twin the weights and flags of its original, as they are now."""
        for layer, twin in self._pairs:
            for source, target in zip(layer.variables, twin.variables, strict=True):
                target.assign(source)
            twin.trainable = layer.trainable
        for source, target, plus in self._variables:
            values = graph.values(source)
            target.assign(np.reshape(values + plus, target.shape).astype(values.dtype))


def _name(layer: Any) -> str:
    return str(layer.name)


def _calls(model: Any) -> list[Any]:
    return [node for node in graph.calls(model) if node.input_tensors]


def _arguments(
    node: Any, known: dict[int, Any], *, traced: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call, without what Keras fills in by itself.

    While tracing nothing is trained, and Keras says so to every layer.
    """
    args, kwargs = node.arguments.fill_in(known)
    given = node.arguments.kwargs
    usual = (None, False) if traced else (None,)
    dropped = [n for n in ("training", "mask") if n in given and _is_one_of(given[n], usual)]
    return list(args), {name: value for name, value in kwargs.items() if name not in dropped}


def _is_one_of(value: Any, usual: Sequence[Any]) -> bool:
    return any(value is each for each in usual)


def _kinds(found: Trace) -> list[str]:
    return [type(node.operation).__name__ for node in found.nodes]
