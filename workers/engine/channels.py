"""The walk: every tensor of a graph carries an array of channel ids.

Makers mint ids, movers are executed on them, tiers unite those that meet, freezers remember why
nothing may be removed. After the walk every tensor changes along one axis at most, so that what
remains after a removal is always a rectangular part of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workers.engine import graph
from workers.engine.ids import Ids, Names, compact, flat_shape, spread, tidy, varying_axes

Shape = tuple[int | None, ...]


class Opaque(Exception):
    """Raised by a rule that does not understand a call; its text is the reason.

    It must be raised before the rule has changed anything.
    """


@dataclass(frozen=True)
class Binding:
    """One axis of a variable is named by ids; `reads`: the axis belongs to the layer's input."""

    layer: str
    variable: Any
    axis: int
    ids: Ids
    reads: bool


@dataclass(frozen=True)
class Maker:
    """A layer that makes units: column i of `kernel` along `axis` makes unit `ids[i]`."""

    layer: Any
    kernel: Any
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Edit:
    """A setting that follows from the shape which remains of `ids`."""

    layer: str
    setting: str
    ids: Ids
    render: Callable[[tuple[int, ...]], Any]


@dataclass
class Walk:
    """What is known while walking: names, bindings, edits and reasons."""

    names: Names = field(default_factory=Names)
    tensors: dict[int, Ids] = field(default_factory=dict)
    bindings: dict[tuple[int, int], Binding] = field(default_factory=dict)
    makers: dict[str, Maker] = field(default_factory=dict)
    edits: dict[tuple[str, str], Edit] = field(default_factory=dict)
    frozen: list[tuple[Ids, str]] = field(default_factory=list)
    opaque: dict[str, str] = field(default_factory=dict)

    def freeze(self, ids: Ids, reason: str) -> None:
        """Nothing named by `ids` may be removed."""
        self.frozen.append((np.unique(compact(ids)), reason))

    def bind(self, layer: Any, variable: Any, axis: int, line: Ids, *, reads: bool) -> None:
        """Name an axis of a variable. A second call of a shared layer unites both names."""
        axis %= len(variable.shape)
        known = self.bindings.get((id(variable), axis))
        if known is not None:
            self.names.unite(known.ids, line)
            return
        self.bindings[id(variable), axis] = Binding(layer.name, variable, axis, line, reads)

    def make(self, layer: Any, kernel: Any, axis: int) -> Ids:
        """The ids of a maker's units; the same at every call of a shared layer."""
        if layer.name not in self.makers:
            axis %= len(kernel.shape)
            line = self.names.mint(int(kernel.shape[axis]))
            self.makers[layer.name] = Maker(layer, kernel, axis, line)
            self.bind(layer, kernel, axis, line, reads=False)
        return self.makers[layer.name].ids

    def edit(
        self, layer: Any, setting: str, ids: Ids, render: Callable[[tuple[int, ...]], Any]
    ) -> None:
        """Let a setting follow `ids`. Calls of a shared layer must keep the same shape."""
        known = self.edits.get((layer.name, setting))
        if known is None:
            self.edits[layer.name, setting] = Edit(layer.name, setting, ids, render)
        elif known.ids.shape == ids.shape:
            self.names.unite(known.ids, ids)
        else:
            for each in (known.ids, ids):
                self.freeze(each, f"{layer.name} is called with different shapes")

    def single_axis(self, ids: Ids, axis: int, user: str) -> Ids:
        """The names along `axis` alone, shape (size of that axis,).

        Where the tensor changes along further axes, what shares an index of `axis` becomes one
        unit; where it changes along other axes only, its units are positions to `user`, and stay.
        """
        small = compact(ids)
        others = [a for a in varying_axes(ids) if a != axis]
        first = small
        for other in others:
            first = first.take([0], other)
        if others and small.shape[axis] == 1:
            self.freeze(ids, f"its units are positions, not channels, to {user}")
        elif others:
            self.names.unite(small, first)
        return np.broadcast_to(first.reshape(-1), (ids.shape[axis],))

    def settle(self) -> None:
        """Unite until every tensor changes along one axis at most (the last such axis)."""
        for ids in self.tensors.values():
            while len(axes := varying_axes(roots := tidy(self.names.find(ids)))) > 1:
                small = compact(roots)
                self.names.unite(small, small.take([0], axes[0]))


@dataclass(frozen=True)
class Call:
    """One call of a layer: the ids and shapes (without batch) of what goes in and comes out."""

    layer: Any
    inputs: tuple[Ids, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    walk: Walk

    @property
    def ids(self) -> Ids:
        """The ids of the only input."""
        if len(self.inputs) != 1:
            raise Opaque(f"{self.layer.name} is called with {len(self.inputs)} inputs")
        return self.inputs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the id tensor of the only output."""
        return flat_shape((None, *self.output_shapes[0]))

    @property
    def channel_axis(self) -> int:
        """Axis of the channels without batch, by the layer's data format."""
        return 0 if getattr(self.layer, "data_format", None) == "channels_first" else -1

    def axis(self, batched: Any, ids: Ids) -> int:
        """A layer's axis setting, which counts the batch axis, as an axis of `ids`."""
        if not isinstance(batched, int) or batched % (ids.ndim + 1) == 0:
            raise Opaque(f"{self.layer.name} works along axis {batched}")
        return batched % (ids.ndim + 1) - 1

    def line(self, axis: int | None = None) -> Ids:
        """The input's names along the channel axis (or `axis`)."""
        axis = self.channel_axis if axis is None else axis
        return self.walk.single_axis(self.ids, axis % self.ids.ndim, self.layer.name)

    def bind(self, variable: Any, axis: int, line: Ids, *, reads: bool = False) -> None:
        """Name an axis of one of the layer's variables."""
        self.walk.bind(self.layer, variable, axis, line, reads=reads)

    def spread(self, line: Ids, axis: int | None = None) -> Ids:
        """An output whose entries are named by `line` along the channel axis (or `axis`)."""
        axis = self.channel_axis if axis is None else axis
        return spread(line, self.shape, axis % len(self.shape))

    def weights(self, *names: str) -> dict[str, Any]:
        """The layer's weights by name.

        Raises:
            Opaque: it has one of another name (adapters, quantisation).
        """
        found = {variable.name: variable for variable in self.layer.weights}
        if strange := set(found) - set(names):
            raise Opaque(f"{self.layer.name} has further weights ({', '.join(sorted(strange))})")
        return found


Rule = Callable[[Call], Ids]


def _call(node: Any, walk: Walk) -> Call:
    return Call(
        layer=node.operation,
        inputs=tuple(walk.tensors[id(tensor)] for tensor in node.input_tensors),
        input_shapes=tuple(tuple(tensor.shape[1:]) for tensor in node.input_tensors),
        output_shapes=tuple(tuple(tensor.shape[1:]) for tensor in node.output_tensors),
        walk=walk,
    )


def _apply(call: Call, rules: Mapping[type, Rule]) -> tuple[Ids, ...]:
    rule = rules.get(type(call.layer))
    kind = type(call.layer).__name__
    try:
        if rule is None:
            nested = "nested models" if graph.is_graph(call.layer) else f"{kind} layers"
            raise Opaque(f"{call.layer.name}: {nested} are left as they are")
        if len(call.output_shapes) != 1:
            raise Opaque(f"{call.layer.name} has several outputs")
        return (tidy(rule(call)),)
    except Opaque as reason:
        call.walk.opaque[call.layer.name] = str(reason)
        for ids in call.inputs:
            call.walk.freeze(ids, str(reason))
        return tuple(frozen(call.walk, shape, str(reason)) for shape in call.output_shapes)


def frozen(walk: Walk, shape: Shape, reason: str) -> Ids:
    """A tensor under one fresh name that may not be removed."""
    name = walk.names.mint(1)
    walk.freeze(name, reason)
    return np.broadcast_to(name, flat_shape((None, *shape)))


def walk_graph(model: Any, rules: Mapping[type, Rule]) -> Walk:
    """Walk a model's graph once, calling the rule of each layer's class."""
    walk = Walk()
    for node in graph.calls(model):
        if not node.input_tensors:
            for tensor in node.output_tensors:
                reason = f"{node.operation.name} is an input of the model"
                walk.tensors[id(tensor)] = frozen(walk, tuple(tensor.shape[1:]), reason)
            continue
        outputs = _apply(_call(node, walk), rules)
        for tensor, ids in zip(node.output_tensors, outputs, strict=True):
            walk.tensors[id(tensor)] = ids
    for tensor in model.outputs:
        walk.freeze(walk.tensors[id(tensor)], "it is an output of the model")
    walk.settle()
    return walk
