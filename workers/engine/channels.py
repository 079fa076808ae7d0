"""The walk: every axis of every tensor of a graph carries names of the units along it.

Makers mint names, movers move them, tiers unite those that meet, freezers remember why nothing may
be removed. What is bound to a name (slices of variables, settings of layers, arguments of calls)
goes with it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.ids import NOBODY, Axis, Ids, Names, Tensor, bare, joined, named, tiled

Shape = tuple[int | None, ...]
Values = NDArray[Any]


class Opaque(Exception):
    """Raised by a rule that does not understand a call; its text is the reason.

    It must be raised before the rule has changed anything.
    """


@dataclass(frozen=True)
class Binding:
    """One axis of a variable is named; `reads`: the axis belongs to what the layer reads."""

    layer: str
    variable: Any
    number: int
    axis: Axis
    reads: bool


@dataclass(frozen=True)
class Slot:
    """An axis of a kernel that holds columns of units: their saliency is read off it."""

    kernel: Any
    number: int
    axis: Axis


@dataclass
class Maker:
    """What makes units: a layer, or one of several kinds of units of a layer."""

    name: str
    key: str
    """Path of the layer."""
    layer: Any
    axis: Axis
    slots: list[Slot] = field(default_factory=list)


@dataclass(frozen=True)
class Edit:
    """A setting that follows from the sizes that remain of some axes."""

    layer: Any
    setting: str
    axes: Tensor
    render: Callable[[tuple[int | None, ...]], Any]


Place = tuple[int | str, ...]
"""Where an argument stands in a call: its position or its keyword, then positions within lists."""


@dataclass(frozen=True)
class Argument:
    """An argument of one call that follows from what remains of some axes.

    `render` gets, for each axis, which indices stay (None where the size is not known).
    """

    node: Any
    position: Place
    axes: Tensor
    render: Callable[[tuple[NDArray[np.bool_] | None, ...]], Any]


@dataclass(frozen=True)
class Scale:
    """A variable is multiplied by a number that follows from how many remain of how many."""

    variable: Any
    axes: Tensor
    factor: Callable[[tuple[int, ...]], float]


Layout = tuple[NDArray[np.int64], ...]
"""The lines of an axis: for each, which of its units every index belongs to, from 0."""

Run = Callable[[list[Values]], list[Values]]
Reference = Callable[[Run, list[Values], Callable[[Axis], NDArray[np.bool_]]], list[Values]]
"""What a call computes in the original when some of its input is to count as removed.

Given the call itself (as a function of its flat tensors), the tensors, and what stays of an axis.
"""


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one call: a constant times what remains of some axes."""

    layer: str
    constant: int
    axes: Tensor
    exact: bool


def _pattern(line: Ids) -> Ids:
    return np.unique(line, return_inverse=True)[1].reshape(-1)


Grids = Mapping[tuple[int, int], tuple[int, ...]]


@dataclass
class Walk:
    """What is known while walking: names, bindings, edits and reasons.

    What earlier walks learnt of makers whose columns are a grid (heads times dimensions): `grids`,
    the shape of the grid that a run of columns is, by the run's start and end; `layouts`, the lines
    of makers that meet grids whose axes have changed places.
    """

    grids: Mapping[str, Grids] = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    tensors: dict[int, Tensor] = field(default_factory=dict)
    bindings: dict[tuple[int, int], Binding] = field(default_factory=dict)
    makers: dict[str, Maker] = field(default_factory=dict)
    edits: dict[tuple[int, str], Edit] = field(default_factory=dict)
    arguments: list[Argument] = field(default_factory=list)
    scales: dict[int, Scale] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    frozen: list[tuple[Ids, str]] = field(default_factory=list)
    heads: list[Ids] = field(default_factory=list)
    opaque: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, dict[tuple[int, int], tuple[int, ...]]] = field(default_factory=dict)
    parts: list[tuple[Axis, str]] = field(default_factory=list)
    wanted_layouts: dict[str, Layout] = field(default_factory=dict)

    # --- names -----------------------------------------------------------------------------
    def freeze(self, axes: Axis | Iterable[Axis], reason: str) -> None:
        """Nothing along these axes may be removed."""
        for axis in (axes,) if isinstance(axes, Axis) else axes:
            for line in axis.lines:
                self.frozen.append((np.unique(line), reason))

    def keep_one(self, axis: Axis, reason: str) -> None:
        """Something along this axis has to remain: its first index, where nothing else sees to it.

        See `parts`.
        """
        self.parts.append((axis, reason))

    def unite(self, left: Axis, right: Axis, user: str) -> Axis:
        """Two axes of one size lose the same indices; returns the one to go on with."""
        if not left.named and not right.named:
            return left if left.size is not None else right
        if not left.named or not right.named:
            known = left if left.named else right
            self.freeze(known, f"{user} joins it with what cannot be removed")
            return known
        if left.size != right.size:
            self.freeze((left, right), f"{user} joins {left.size} with {right.size} of them")
            return left
        if len(left.lines) != len(right.lines):
            few, many = sorted((left, right), key=lambda axis: len(axis.lines))
            grid = self._grid_of(many)
            if grid is None:
                self._want_layout(few, many)
            else:
                self.want(few, grid)
            self.freeze((left, right), f"{user} joins grids of different shape")
            return few
        for one, other in zip(left.lines, right.lines, strict=True):
            self.names.unite(one, other)
        return left

    def _grid_of(self, axis: Axis) -> tuple[int, ...] | None:
        """The shape of the grid that (a run of) a maker's axis with these lines was laid out in."""
        roots = [self.names.find(line) for line in axis.lines]
        for name, grids in self.grids.items():
            for (start, end), grid in grids.items() if name in self.makers else ():
                mine = self.makers[name].axis.take(slice(start, end)).lines
                if end - start == axis.size and len(mine) == len(roots):
                    pairs = zip(mine, roots, strict=True)
                    if all(np.array_equal(self.names.find(one), other) for one, other in pairs):
                        return grid
        return None

    def want(self, axis: Axis, grid: tuple[int, ...]) -> bool:
        """Ask for another walk in which the makers of these names lay them out as a grid."""
        if len(axis.lines) != 1:
            return False
        roots = self.names.find(axis.lines[0])
        if np.unique(roots).size < roots.size or roots[0] == NOBODY:
            return False
        found = False
        for name, maker in self.makers.items():
            run = self._run_of(maker.axis, roots)
            known = (*self.grids.get(name, ()), *self.wanted.get(name, ()))
            if run is not None and not any(a < run[1] and run[0] < b for a, b in known):
                self.wanted.setdefault(name, {})[run] = grid
                found = True
        return self._refine(roots, grid) or found

    def _want_layout(self, few: Axis, many: Axis) -> None:
        """Ask for another walk in which the makers of `few` have the lines of `many`."""
        if len(few.lines) != 1:
            return
        roots = self.names.find(few.lines[0])
        layout = tuple(_pattern(self.names.find(line)) for line in many.lines)
        for name, maker in self.makers.items():
            if len(maker.axis.lines) != 1 or maker.axis.size != roots.size:
                continue
            mine = self.names.find(maker.axis.lines[0])
            if np.array_equal(mine, roots) and np.unique(mine).size == mine.size:
                self.wanted_layouts.setdefault(name, layout)

    def _refine(self, roots: Ids, grid: tuple[int, ...]) -> bool:
        """Ask for a finer grid where these names are one axis of a grid already."""
        found = False
        for name, grids in self.grids.items():
            for run, known in grids.items() if name in self.makers else ():
                lines = iter(self.makers[name].axis.take(slice(*run)).lines)
                for number, count in enumerate(known):
                    line = next(lines, None) if count > 1 else None
                    if line is None or count != roots.size or line.size != np.prod(known):
                        continue
                    mine = np.moveaxis(line.reshape(known), number, -1).reshape(-1, count)[0]
                    if np.array_equal(self.names.find(mine), roots):
                        finer = (*known[:number], *grid, *known[number + 1 :])
                        self.wanted.setdefault(name, {}).setdefault(run, finer)
                        found = True
        return found

    def _run_of(self, axis: Axis, roots: Ids) -> tuple[int, int] | None:
        """Where along an axis exactly these names follow each other, and no others."""
        for line in axis.lines:
            mine = self.names.find(line)
            start = int(np.argmax(mine == roots[0]))
            run = (start, start + roots.size)
            if np.array_equal(mine[slice(*run)], roots):
                return run if len(axis.take(slice(*run)).lines) == 1 else None
        return None

    def mint(self, size: int) -> Axis:
        """A fresh axis."""
        return named((self.names.mint(size),))

    # --- what goes with names --------------------------------------------------------------
    def bind(
        self, layer: str, variable: Any, number: int, axis: Axis, *, reads: bool = False
    ) -> None:
        """Name an axis of a variable. A second call of a shared layer unites both names."""
        number %= len(variable.shape)
        known = self.bindings.get((id(variable), number))
        if known is not None:
            if known.axis.named or axis.named:
                self.unite(known.axis, axis, layer)
            if reads and not known.reads:
                self.bindings[id(variable), number] = replace(known, reads=True)
            return
        self.bindings[id(variable), number] = Binding(layer, variable, number, axis, reads)

    def make(
        self, name: str, layer: Any, size: int, *, groups: int = 1, key: str | None = None
    ) -> Axis:
        """The names of a maker's units; the same at every call of a shared layer.

        With `groups`, the axis is that many runs which lose the same positions.
        """
        maker = self.makers.get(name)
        if maker is None:
            tied = groups > 1
            axis = tiled(self.mint(size // groups), groups) if tied else self._laid_out(name, size)
            maker = self.makers[name] = Maker(name, key or name, layer, axis)
        return maker.axis

    def tie(self, axis: Axis, groups: int, user: str) -> Axis:
        """Let `groups` runs of an axis lose the same positions; returns the first run's axis."""
        size = (axis.size or 0) // groups
        first = []
        for line in axis.lines:
            grid = self.names.find(line).reshape(groups, size)
            if size == 1 or not (grid == grid[:, :1]).all():
                self.names.unite(grid, grid[:1])
            else:
                self.freeze(Axis(axis.size, (line,)), f"{user} needs every one of its groups")
            first.append(line[:size])
        return named(first, size)

    def _laid_out(self, name: str, size: int) -> Axis:
        layout = self.layouts.get(name)
        if layout is not None:
            return named([self.names.mint(int(line.max()) + 1)[line] for line in layout])
        parts, end = [], 0
        for (start, stop), grid in sorted(self.grids.get(name, {}).items()):
            if start < end or stop > size or int(np.prod(grid)) != stop - start:
                continue
            parts += [self.mint(start - end)] * (start > end) + [self._grid(grid)]
            end = stop
        parts += [self.mint(size - end)] * (size > end)
        return parts[0] if len(parts) == 1 else joined(parts)

    def _grid(self, grid: tuple[int, ...]) -> Axis:
        lines = []
        for position, count in enumerate(grid):
            if count > 1:
                view = [1] * len(grid)
                view[position] = count
                line = self.names.mint(count).reshape(view)
                lines.append(np.broadcast_to(line, grid).reshape(-1))
        return named(lines, int(np.prod(grid)))

    def slot(self, name: str, kernel: Any, number: int, axis: Axis) -> None:
        """Remember where the columns of a maker's units are."""
        number %= len(kernel.shape)
        slots = self.makers[name].slots
        if not any(slot.kernel is kernel and slot.number == number for slot in slots):
            slots.append(Slot(kernel, number, axis))

    def edit(
        self,
        layer: Any,
        setting: str,
        axes: Sequence[Axis],
        render: Callable[[tuple[int | None, ...]], Any],
    ) -> None:
        """Let a setting follow axes. Calls of a shared layer must keep the same shape."""
        axes = tuple(axes)
        known = self.edits.get((id(layer), setting))
        if known is None:
            self.edits[id(layer), setting] = Edit(layer, setting, axes, render)
            return
        if [a.size for a in known.axes] == [a.size for a in axes]:
            for one, other in zip(known.axes, axes, strict=True):
                if one.named or other.named:
                    self.unite(one, other, layer.name)
        else:
            self.freeze((*known.axes, *axes), f"{layer.name} is called with different shapes")

    def scale(
        self, variable: Any, axes: Sequence[Axis], factor: Callable[[tuple[int, ...]], float]
    ) -> None:
        """Multiply a variable by a number that follows from how many remain."""
        self.scales[id(variable)] = Scale(variable, tuple(axes), factor)

    def kernel_work(self, layer: str, variable: Any, positions: Sequence[Axis]) -> None:
        """A kernel is used once at each of these positions."""
        axes = []
        for number, size in enumerate(variable.shape):
            binding = self.bindings.get((id(variable), number))
            axes.append(Axis(int(size)) if binding is None else binding.axis)
        self.work(layer, (*axes, *positions))

    def work(self, layer: str, axes: Sequence[Axis]) -> None:
        """As many multiply-accumulates as these axes have indices together."""
        constant = 1
        for axis in axes:
            if not axis.named:
                constant *= 1 if axis.size is None else axis.size
        exact = all(axis.size is not None for axis in axes)
        self.works.append(Work(layer, constant, tuple(a for a in axes if a.named), exact))


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation: the axes of what goes in, the shapes of what comes out.

    `key` is the layer's path: its name, behind those of the models and wrappers that hold it.
    """

    layer: Any
    key: str
    inputs: tuple[Tensor, ...]
    output_shapes: tuple[Shape, ...]
    walk: Walk
    node: Any = None

    @property
    def input(self) -> Tensor:
        """The only input.

        Raises:
            Opaque: there are several.
        """
        if len(self.inputs) != 1:
            raise Opaque(f"{self.key} is called with {len(self.inputs)} inputs")
        return self.inputs[0]

    @property
    def shape(self) -> Shape:
        """Shape of the only output, batch axis first."""
        if len(self.output_shapes) != 1:
            raise Opaque(f"{self.key} has {len(self.output_shapes)} outputs")
        return self.output_shapes[0]

    @property
    def channel_axis(self) -> int:
        """Number of the channel axis, by the layer's data format."""
        first = getattr(self.layer, "data_format", None) == "channels_first"
        return 1 if first else len(self.inputs[0]) - 1

    def axis(self, number: Any, tensor: Tensor | None = None) -> int:
        """A layer's axis setting, which counts the batch axis, as an index into the axes."""
        rank = len(self.inputs[0] if tensor is None else tensor)
        if not isinstance(number, int) or number % rank == 0:
            raise Opaque(f"{self.key} works along axis {number}")
        return number % rank

    def weights(self, *names: str) -> dict[str, Any]:
        """The layer's weights by name.

        Raises:
            Opaque: it has one of another name (adapters, quantisation).
        """
        found = {variable.name: variable for variable in self.layer.weights}
        if strange := set(found) - set(names):
            raise Opaque(f"{self.key} has further weights ({', '.join(sorted(strange))})")
        return found

    def bind(self, variable: Any, number: int, axis: Axis, *, reads: bool = False) -> None:
        """Name an axis of one of the layer's variables."""
        self.walk.bind(self.key, variable, number, axis, reads=reads)

    def make(self, kernel: Any, number: int, axis: Axis | None = None) -> Axis:
        """Names for the units along an axis of the layer's kernel."""
        number %= len(kernel.shape)
        if axis is None:
            axis = self.walk.make(self.key, self.layer, int(kernel.shape[number]))
        self.bind(kernel, number, axis)
        self.walk.slot(self.key, kernel, number, axis)
        return axis

    def freeze(self, axes: Axis | Iterable[Axis], reason: str) -> None:
        """Nothing along these axes may be removed; the reason follows the layer's name."""
        self.walk.freeze(axes, f"{self.key} {reason}")

    def edit(
        self, setting: str, axes: Sequence[Axis], render: Callable[[Any], Any] | None = None
    ) -> None:
        """Let a setting follow axes; without `render`, the number that remains of the only one."""
        self.walk.edit(self.layer, setting, axes, render or (lambda sizes: sizes[0]))

    def silence(self, axes: Mapping[int, int]) -> None:
        """Removed indices of these inputs' axes count as zero in the original's call.

        Args:
            axes: by number of the input, the number of the axis.
        """
        if self.node is None:
            raise Opaque(f"{self.key} sums over units inside another layer")
        mine = {number: (axis, self.inputs[number][axis]) for number, axis in axes.items()}

        def compute(run: Run, inputs: list[Values], kept: Any) -> list[Values]:
            inputs = list(inputs)
            for number, (axis, names) in mine.items():
                view = [1] * inputs[number].ndim
                view[axis] = -1
                stays = kept(names).reshape(view)
                inputs[number] = np.where(stays, inputs[number], np.zeros_like(inputs[number]))
            return run(inputs)

        self.walk.references[id(self.node)] = compute

    def replaced(self, number: int, axis: Axis, tensor: Tensor | None = None) -> Tensor:
        """The input with one axis replaced; sizes of the others as the output's shape says."""
        axes = list(self.inputs[0] if tensor is None else tensor)
        axes[number] = axis
        return self.fitted(axes)

    def fitted(self, axes: Sequence[Axis], output: int = 0) -> Tensor:
        """Axes whose sizes are those of an output; names hold where the size fits."""
        shape = self.output_shapes[output]
        if len(shape) != len(axes):
            raise Opaque(f"{self.key} gives {len(shape)} axes where {len(axes)} were expected")
        for axis, size in zip(axes, shape, strict=True):
            if axis.named and axis.size != size:
                self.freeze(axis, "changes its length, so they are positions to it, not channels")
        return tuple(
            axis if axis.size == size else Axis(size)
            for axis, size in zip(axes, shape, strict=True)
        )

    def inner(
        self, layer: Any, key: str, inputs: Sequence[Tensor], shapes: Sequence[Shape]
    ) -> "Call":
        """A call of a layer that this one holds."""
        return Call(layer, f"{self.key}/{key}", tuple(inputs), tuple(shapes), self.walk, None)


Result = tuple[Tensor, ...]
Rule = Callable[[Call], Tensor | Result]


def outputs_of(result: Tensor | Result) -> Result:
    """A rule's answer as one tensor per output."""
    alone = [each for each in result if isinstance(each, Axis)]
    return (tuple(alone),) if alone else tuple(e for e in result if not isinstance(e, Axis))


def apply_rule(call: Call, rules: Mapping[type, Rule]) -> Result:
    """The outputs of a call; what no rule understands freezes what it touches."""
    try:
        if graph.is_graph(call.layer):
            return _through(call, rules)
        rule = rules.get(type(call.layer))
        if rule is None:
            kind = type(call.layer).__name__
            raise Opaque(f"{call.key}: {kind} layers are left as they are")
        return outputs_of(rule(call))
    except Opaque as reason:
        call.walk.opaque[call.key] = str(reason)
        for tensor in call.inputs:
            call.walk.freeze(tensor, str(reason))
        _count_opaque(call)
        return tuple(bare(shape) for shape in call.output_shapes)


def _count_opaque(call: Call) -> None:
    kernels = [v for v in getattr(call.layer, "weights", ()) if v.name in graph.KERNELS]
    if kernels:
        call.walk.works.append(Work(call.key, 0, (), exact=False))


def _through(call: Call, rules: Mapping[type, Rule]) -> Result:
    """A nested model: its own graph, with the names that come in."""
    inner = graph.graph_of(call.layer)
    for tensor, axes in zip(inner.inputs, call.inputs, strict=True):
        known = call.walk.tensors.get(id(tensor))
        if known is not None:
            for one, other in zip(known, axes, strict=True):
                if one.named or other.named:
                    call.walk.unite(one, other, call.key)
        call.walk.tensors[id(tensor)] = axes
        # The inner model says the shape of its inputs once more.
        call.walk.edit(tensor._keras_history.operation, "batch_shape", axes, list)
    _run(inner, f"{call.key}/", call.walk, rules)
    return tuple(call.walk.tensors[id(tensor)] for tensor in inner.outputs)


def _run(model: Any, prefix: str, walk: Walk, rules: Mapping[type, Rule]) -> None:
    for node in graph.calls(model):
        if not node.input_tensors:
            continue
        given = graph.data_tensors(node)
        for tensor in node.input_tensors[len(given) :]:
            walk.freeze(walk.tensors[id(tensor)], f"it is a mask of {node.operation.name}")
        call = Call(
            layer=node.operation,
            key=f"{prefix}{node.operation.name}",
            inputs=tuple(walk.tensors[id(tensor)] for tensor in given),
            output_shapes=tuple(tuple(tensor.shape) for tensor in node.output_tensors),
            walk=walk,
            node=node,
        )
        outputs = apply_rule(call, rules)
        for tensor, axes in zip(node.output_tensors, outputs, strict=True):
            walk.tensors[id(tensor)] = axes


WALKS = 8
"""Walks until every grid of heads times dimensions is known; two or three are the rule."""


def walk_graph(model: Any, rules: Mapping[type, Rule]) -> Walk:
    """Walk a model's graph, calling the rule of each layer's or operation's class."""
    layouts: dict[str, Layout] = {}
    grids: dict[str, Grids] = {}
    for _ in range(WALKS):
        walk = Walk(grids=grids, layouts=layouts)
        for tensor in graph.graph_of(model).inputs:
            walk.tensors[id(tensor)] = bare(tensor.shape)
        _run(model, "", walk, rules)
        for tensor in graph.graph_of(model).outputs:
            walk.freeze(walk.tensors[id(tensor)], "it is an output of the model")
        more = {k: v for k, v in walk.wanted_layouts.items() if k not in layouts}
        if not walk.wanted and not more:
            break
        layouts |= more
        grids |= {name: {**grids.get(name, {}), **runs} for name, runs in walk.wanted.items()}
    return walk
