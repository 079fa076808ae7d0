"""What a call of a model costs, as a smooth function of how many units each group keeps.

Time on a CPU is not proportional to MACs: depthwise kernels use few of the machine's multipliers,
and elementwise layers none, but move every value. So a unit of an early layer, whose values are
many, costs more time than its MACs say. The weights below are of that kind and not of one machine:
they order units, and how much is gained is always measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.analysis import Analysis, Group
from workers.engine.ids import NOBODY, Axis

layers = keras.layers

DEPTHWISE = 5.0
"""Time of a depthwise multiply-accumulate, in those of a dense one."""
VALUE = 8.0
"""Time of writing and reading one value of a tensor, in dense multiply-accumulates."""
SMOOTH = 20.0
"""Time of an exponential, as in swish, sigmoid or GELU, for one value."""
_SMOOTH = frozenset({"swish", "silu", "sigmoid", "gelu", "tanh", "softplus", "mish", "softmax"})
_MOVES = (layers.BatchNormalization, layers.InputLayer, layers.Dropout, layers.Reshape)
"""Calls that runtimes fold into others, or do without moving values."""


@dataclass(frozen=True)
class Factor:
    """The share of an axis' line that stays: (fixed + columns · kept) / size."""

    fixed: float
    columns: NDArray[np.float64]
    size: float


class Terms:
    """A sum of products: constants times what remains of axes, each linear in the units kept."""

    def __init__(
        self,
        analysis: Analysis,
        groups: Sequence[Group],
        entries: Sequence[tuple[float, Sequence[Axis]]],
    ) -> None:
        self._group_of = np.full(len(analysis.walk.names), -1, dtype=np.int64)
        for number, group in enumerate(groups):
            self._group_of[group.units] = number
        self._analysis, self._count = analysis, len(groups)
        # Many axes share a line: what stays of each line is worked out once.
        place: dict[int, int] = {}
        factors: list[Factor] = []
        constants, owners, lines = [], [], []
        for number, (constant, axes) in enumerate(entries):
            for axis in axes:
                constant *= 1 if axis.size is None else axis.size
                for line in axis.lines:
                    if id(line) not in place:
                        place[id(line)] = len(factors)
                        factors.append(self._factor(line))
                    owners.append(number)
                    lines.append(place[id(line)])
            constants.append(constant)
        self._constants = np.array(constants, dtype=np.float64)
        self._owners = np.array(owners, dtype=np.int64)
        self._lines = np.array(lines, dtype=np.int64)
        self._fixed = np.array([f.fixed / f.size for f in factors])
        shape = (len(factors), self._count)
        self._columns = np.array([f.columns / f.size for f in factors]).reshape(shape)

    def _factor(self, line: NDArray[np.int64]) -> Factor:
        owner = self._group_of[self._analysis.root_of[line]]
        owner[line == NOBODY] = -1
        # A unit owns as many indices as its group's units do on the average.
        columns = np.bincount(owner[owner >= 0], minlength=self._count).astype(np.float64)
        sizes = np.bincount(self._group_of[self._group_of >= 0], minlength=self._count)
        return Factor(
            fixed=float(np.count_nonzero(owner < 0)),
            columns=columns / np.maximum(sizes, 1),
            size=float(line.size),
        )

    def value(self, kept: NDArray[np.float64]) -> float:
        """The sum when group i keeps `kept[i]` units."""
        return float(self._products(self._shares(kept)).sum())

    def gradient(self, kept: NDArray[np.float64]) -> NDArray[np.float64]:
        """What one unit more of each group costs, (groups,)."""
        shares = self._shares(kept)
        products = self._products(shares)
        touched = np.bincount(self._lines, weights=products[self._owners], minlength=shares.size)
        found: NDArray[np.float64] = (touched / np.maximum(shares, 1e-12)) @ self._columns
        return found

    def _shares(self, kept: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each line, what stays."""
        found: NDArray[np.float64] = self._fixed + self._columns @ kept
        return found

    def _products(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        logs = np.bincount(
            self._owners,
            weights=np.log(np.maximum(shares, 1e-12))[self._lines],
            minlength=self._constants.size,
        )
        found: NDArray[np.float64] = self._constants * np.exp(logs)
        return found


Entries = list[tuple[float, Sequence[Axis]]]


def time_entries(analysis: Analysis) -> Entries:
    """What a call costs in dense multiply-accumulates."""
    kinds = {key: type(layer) for key, layer in graph.leaves(analysis.model)}
    depthwise = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    found: Entries = [
        (work.constant * (DEPTHWISE if kinds.get(work.layer) in depthwise else 1.0), work.axes)
        for work in analysis.walk.works
    ]
    return found + [
        (weight, analysis.walk.tensors[id(tensor)][1:])
        for node in _calls(analysis.model)
        if (weight := _moved(node.operation)) > 0
        for tensor in node.output_tensors
        if id(tensor) in analysis.walk.tensors
    ]


def _moved(operation: Any) -> float:
    if isinstance(operation, _MOVES) or graph.is_graph(operation):
        return 0.0
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", type(operation).__name__).lower()
    return VALUE + (SMOOTH if name in _SMOOTH else 0.0)


def _calls(model: Any) -> list[Any]:
    found = []
    for node in graph.calls(model):
        if graph.is_graph(node.operation):
            found += _calls(node.operation)
        elif node.input_tensors:
            found.append(node)
    return found


def mac_entries(analysis: Analysis) -> Entries:
    """Multiply-accumulates."""
    return [(float(work.constant), work.axes) for work in analysis.walk.works]


def parameter_entries(analysis: Analysis) -> Entries:
    """Parameters."""
    found: Entries = []
    for variable in graph.variable_keys(analysis.model).values():
        axes = []
        for number, size in enumerate(variable.shape):
            binding = analysis.walk.bindings.get((id(variable), number))
            axes.append(Axis(int(size)) if binding is None else binding.axis)
        found.append((1.0, axes))
    return found


MEASURES: Mapping[str, Callable[[Analysis], Entries]] = MappingProxyType(
    {"macs": mac_entries, "parameters": parameter_entries}
)
