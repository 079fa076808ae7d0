"""A model built anew, call by call, of stock layers where those of KerasHub stood."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from workers.engine import graph
from workers.engine.inlining.names import Names, joined, part, snake
from workers.engine.inlining.trace import CannotInline, Lengths, Trace, is_hub, table_of, trace

Named = Callable[[Any], str]
"""What the twin of a layer or operation is to be called."""
Expansion = Callable[["Builder", Any, str, list[Any], dict[str, Any]], Any]
"""A layer's call by stock layers: given the builder, layer, name and arguments; the outputs."""


def holds_hub(model: Any) -> bool:
    """Whether a model is one of KerasHub's, or any layer at any depth is."""
    return is_hub(model) or any(is_hub(each) for each in model._flatten_layers())


class Builder:
    """Twins of the layers of one model; `stays` says which of KerasHub's remain, and why."""

    def __init__(self, expansions: Mapping[str, Expansion]) -> None:
        self._expansions = expansions
        self._names = Names()
        self._twins: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []
        self._variables: list[tuple[Any, Any, float]] = []
        self._counted: dict[tuple[int, int | None], Any] = {}
        self.stays: dict[str, str] = {}

    # --- models ----------------------------------------------------------------------------
    def model(self, model: Any) -> Any:
        """A Functional twin of a model, without its weights."""
        inner = graph.graph_of(model)
        known = {id(tensor): self._input(tensor) for tensor in inner.inputs}
        self.replay(_calls(model), known, lambda layer: str(layer.name))

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
        if type(model).__name__ in ("Functional", "Model", "Sequential"):
            if not holds_hub(model):
                return self.stock(model, path)(*args, **kwargs)
            if id(model) not in self._twins:
                outer, self._names = self._names, Names()
                self._twins[id(model)] = self.model(model)
                self._names = outer
                self._names.take(model.name)
            return self._twins[id(model)](*args)
        # A backbone: its settings are no graph, so its calls go into the graph around it.
        inner = graph.graph_of(model)
        given = keras.tree.flatten(args[0] if len(args) == 1 else list(args))
        known = {id(t): value for t, value in zip(inner.inputs, given, strict=True)}
        self.replay(_calls(model), known, lambda layer: str(layer.name))
        return keras.tree.map_structure(lambda tensor: known[id(tensor)], inner._outputs_struct)

    # --- calls -----------------------------------------------------------------------------
    def replay(
        self,
        nodes: Iterable[Any],
        known: dict[int, Any],
        named: Named,
        lengths: Lengths | None = None,
    ) -> None:
        """Make recorded calls again; `known` maps their tensors to those of the new graph."""
        for node in nodes:
            args, kwargs = _arguments(node, known)
            operation = node.operation
            if table_of(node) is not None:
                result = self._looked_up(table_of(node), named(operation), args, kwargs)
            elif isinstance(operation, keras.layers.Layer):
                result = self.call(operation, named(operation), args, kwargs)
            else:
                result = self._operate(operation, named(operation), args, kwargs, lengths)
            for old, new in zip(node.output_tensors, keras.tree.flatten(result), strict=True):
                known[id(old)] = new
                _carry_mask(old, new, known)

    def call(self, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A layer's outputs in the new graph: by stock layers, if that can be had."""
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
        saved = (dict(self._twins), len(self._pairs), len(self._variables), dict(self.stays))
        try:
            return self.emit(found, lambda each: joined(path, part(each, layer)))
        except Exception as error:
            self._twins, self.stays = saved[0], saved[3]
            del self._pairs[saved[1] :], self._variables[saved[2] :]
            if isinstance(error, CannotInline):
                raise
            words = " ".join(str(error).split())[:160]
            raise CannotInline(f"its calls cannot be made again ({words})") from error

    def emit(self, found: Trace, named: Named) -> Any:
        """What a trace wrote down, in the new graph."""
        known = dict(found.given)
        if found.positions is not None:
            source = next(iter(found.given.values()))
            known[id(found.positions)] = self.named(self.positions(source)[0], "first_positions")
        self.replay(found.nodes, known, named, found.lengths)
        return keras.tree.map_structure(lambda tensor: known.get(id(tensor), tensor), found.outputs)

    # --- layers ----------------------------------------------------------------------------
    def stock(self, layer: Any, path: str, kind: type | None = None, **settings: Any) -> Any:
        """The twin of a layer: its class, or `kind`, with its settings and later its weights."""
        if id(layer) not in self._twins:
            config = layer.get_config() | settings | {"name": self._names.take(path)}
            twin = (kind or type(layer)).from_config(config)
            self._twins[id(layer)] = twin
            self._pairs.append((layer, twin))
        return self._twins[id(layer)]

    def fresh(self, owner: Any, role: str, make: Callable[[str], Any], path: str) -> Any:
        """A layer that stands for part of another one, one per `owner` and `role`."""
        key = hash((id(owner), role))
        if key not in self._twins:
            self._twins[key] = make(self._names.take(path))
        return self._twins[key]

    def weight(self, source: Any, target: Any, plus: float = 0.0) -> None:
        """A variable that a fresh layer takes over, in its own shape."""
        self._variables.append((source, target, plus))

    def _stock_call(self, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        activation = getattr(layer, "activation", None)
        if not (inspect.isfunction(activation) and is_hub(activation)):
            return self.stock(layer, path)(*args, **kwargs)
        # The function would be looked up in KerasHub by whoever loads the model.
        output = self.stock(layer, path, activation="linear")(*args, **kwargs)
        found = trace(layer, activation, [output], {})
        return self.emit(found, lambda each: f"{path}_{snake(type(each).__name__)}")

    # --- operations ------------------------------------------------------------------------
    def _operate(
        self,
        operation: Any,
        path: str,
        args: list[Any],
        kwargs: dict[str, Any],
        lengths: Lengths | None,
    ) -> Any:
        config = operation.get_config()
        unknown = None in getattr(operation, "newshape", ())
        if lengths is not None and (unknown or lengths.within([config, args, kwargs])):
            return self._of_unknown_length(operation, path, args, kwargs, lengths)
        twin = type(operation).from_config(config)
        twin.name = self._names.take(path)
        return twin(*args, **kwargs)

    def _looked_up(self, table: Any, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Rows of a weight, as an Embedding."""
        rows, dimensions = (int(size) for size in table.shape)

        def make(name: str) -> Any:
            return keras.layers.Embedding(rows, dimensions, dtype=table.dtype, name=name)

        twin = self.fresh(table, "table", make, f"{path.rpartition('_')[0]}_{table.name}")
        found = twin([*args, *kwargs.values()][1])
        self.weight(table, twin.embeddings)
        twin.trainable = table.trainable
        return found

    def _of_unknown_length(
        self,
        operation: Any,
        path: str,
        args: list[Any],
        kwargs: dict[str, Any],
        lengths: Lengths,
    ) -> Any:
        kind = type(operation).__name__
        if kind == "Reshape":
            given = operation.newshape
            sizes = [-1 if size is None or lengths.of(size) else int(size) for size in given]
            if sizes.count(-1) == 1:
                twin = type(operation)(tuple(sizes))
                twin.name = self._names.take(path)
                return twin(args[0])
            if given[0] in (None, lengths.batch) and sizes.count(-1) == 2:
                return keras.layers.Reshape(sizes[1:], name=self._names.take(path))(args[0])
        if kind == "BroadcastTo" and _broadcasts(args[0].shape, operation.shape, lengths):
            return args[0]  # What reads it broadcasts it again.
        if kind == "GetItem" and not kwargs:
            key = keras.tree.map_structure(partial(_to_the_end, lengths), args[1])
            if not lengths.within(key):
                twin = type(operation)()
                twin.name = self._names.take(path)
                return twin(args[0], key)
        raise CannotInline(f"its {kind} needs a length that is not known")

    def positions(self, tensor: Any, length: int | None = None) -> Any:
        """0, 1, … of each sample, (batch, length): along `tensor`'s axis 1, or so many.

        They are derived from the input of the model that the tensor comes from first.
        """
        source = _source(tensor, length is None)
        key = (id(source), length)
        if key not in self._counted:
            ops = keras.ops
            if length is None:
                if len(source.shape) < 2 or (source.shape[1] is None) != (tensor.shape[1] is None):
                    raise CannotInline("the length of its input is not that of the model's input")
                places = source[(slice(None), slice(None), *[0] * (len(source.shape) - 2))]
                ones = ops.ones_like(places, dtype="int32")
            else:
                first = source[(slice(None), slice(0, 1), *[0] * (len(source.shape) - 2))]
                ones = ops.repeat(ops.ones_like(first, dtype="int32"), length, axis=1)
            found = ops.subtract(ops.cumsum(ones, axis=1), 1)
            self._name_back(found, source, "positions")
            self._counted[key] = found
        return self._counted[key]

    def named(self, tensor: Any, name: str) -> Any:
        """The tensor, and the operation that gives it called `name`."""
        operation = tensor._keras_history.operation
        operation.name = self._names.take(name)
        return tensor

    def _name_back(self, tensor: Any, source: Any, name: str) -> None:
        while tensor is not source:
            operation, number, _ = tensor._keras_history
            operation.name = self._names.take(f"{name}_{snake(type(operation).__name__)}")
            tensor = operation._inbound_nodes[number].input_tensors[0]

    # --- weights ---------------------------------------------------------------------------
    def copy_weights(self) -> None:
        """Give every twin the weights and flags of its original, as they are now.

        Raises:
            CannotInline: a twin has other weights.
        """
        for layer, twin in self._pairs:
            for source, target in zip(layer.variables, twin.variables, strict=True):
                target.assign(source)
            twin.trainable = layer.trainable
        for source, target, plus in self._variables:
            values = graph.values(source)
            target.assign(np.reshape(values + plus, target.shape).astype(values.dtype))


def _calls(model: Any) -> list[Any]:
    return [node for node in graph.calls(model) if node.input_tensors]


def _arguments(node: Any, known: dict[int, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call; Keras hands on masks and the flag of training by itself."""
    args, kwargs = node.arguments.fill_in(known)
    hung = {id(getattr(tensor, "_keras_mask", None)) for tensor in node.input_tensors}
    for name, value in node.arguments.kwargs.items():
        own = [id(tensor) for tensor in keras.tree.flatten(value)]
        if (value is None and name in ("training", "mask")) or (
            name == "mask" and set(own) <= hung
        ):
            del kwargs[name]
    return list(args), dict(kwargs)


def _carry_mask(old: Any, new: Any, known: dict[int, Any]) -> None:
    """Masks hang on tensors; operations lose them, so they are hung up again."""
    mask = getattr(old, "_keras_mask", None)
    if not isinstance(mask, keras.KerasTensor):
        return
    found = getattr(new, "_keras_mask", None)
    if found is not None:
        known[id(mask)] = found
    elif id(mask) in known:
        new._keras_mask = known[id(mask)]


def _kinds(found: Trace) -> list[str]:
    return [type(node.operation).__name__ for node in found.nodes]


def _to_the_end(lengths: Lengths, key: Any) -> Any:
    """A slice up to an unknown length takes all."""
    if isinstance(key, slice) and key.stop == lengths.other:
        return slice(key.start, None, key.step)
    return key


def _broadcasts(before: Sequence[Any], after: Sequence[int], lengths: Lengths) -> bool:
    """Whether only axes of unknown length are added or widened, so that it may be left out."""
    if len(before) != len(after):
        return False
    return all(
        old == new or (lengths.of(new) and (old is None or old == 1))
        for old, new in zip(before, after, strict=True)
    )


MOVES = re.compile("Conv|Pool|Pad|Crop|Sampling|Reshape|Permute|Transpose|Item|Concat|Slice|Resiz")
"""Classes that may change how many positions there are."""


def _source(tensor: Any, same_length: bool) -> Any:
    """The model's input that a tensor comes from, by the first input of each call."""
    while True:
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        if not node.input_tensors:
            return tensor
        if same_length and MOVES.search(type(operation).__name__) and not _along_others(node):
            raise CannotInline("the length of its input is not that of the model's input")
        tensor = node.input_tensors[0]


def _along_others(node: Any) -> bool:
    """Whether a call takes pieces along other axes than 0 and 1."""
    if type(node.operation).__name__ != "GetItem" or not isinstance(node.arguments.args[1], tuple):
        return False
    key = node.arguments.args[1]
    if key[0] is Ellipsis:
        return len(key) - 1 <= len(node.input_tensors[0].shape) - 2
    return all(each == slice(None) for each in key[:2])
