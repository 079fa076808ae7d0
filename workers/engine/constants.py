"""Values that never change: what a unit that looks at nothing hands to those that read it.

That a value is constant follows from the weights (`workers.engine.dead`); here it is looked up on
probe inputs, and that it is the same at every position, for every sample and length, is checked.
"""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine import graph
from workers.engine.analysis import Analysis
from workers.engine.equality import UNKNOWN_LENGTH, execute, probe_inputs
from workers.engine.ids import Axis
from workers.engine.masks import Mask
from workers.engine.rules import makers, movers, recurrent, tiers

layers = keras.layers
Values = NDArray[np.float64]

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
PASSING: frozenset[type] = frozenset(
    {*movers.RULES, *tiers.RULES, layers.DepthwiseConv1D, layers.DepthwiseConv2D}
) - {layers.Masking, layers.Softmax}
"""What makes something of each channel for itself: what is seen further on decides."""
READING: frozenset[type] = (
    frozenset({*makers.RULES, *recurrent.RULES})
    | {layers.MultiHeadAttention, layers.GroupQueryAttention}
) - {*PASSING, layers.TimeDistributed}
"""What multiplies the channels that it reads by weights, so that zeros add nothing to it."""
NOISE = 1e-6
"""Values this near to each other, as a fraction of the larger, are the same."""


@dataclass
class Read:
    """The constants that a kernel reads from an axis, into sums that have a bias."""

    layer: Any
    axis: Axis
    values: Values
    """By index of the axis; 0 where it is no constant, or one that stays."""


@dataclass
class Constants:
    """What was seen: `holds` says of each name whether its value never changed where it is read,
    and can be added to the biases of those that read it.
    """

    holds: Mask
    reads: dict[int, Read] = field(default_factory=dict)
    """By the `id` of the layer that reads."""
    seen: dict[tuple[int, int, int], Values] = field(default_factory=dict)


def look_up(analysis: Analysis, wanted: Mask, seed: int) -> Constants:
    """Run the model on two sets of probes, of different length where the length is free.

    Args:
        analysis: the model.
        wanted: by name (root), the units to look at.
        seed: of the probes.
    """
    found = Constants(holds=wanted.copy())

    def see(node: Any, given: list[Any]) -> None:
        for number, (tensor, value) in enumerate(zip(node.input_tensors, given, strict=True)):
            for position, axis in enumerate(analysis.walk.tensors.get(id(tensor), ())):
                if axis.named and wanted[_roots(analysis, axis)].any():
                    _look(analysis, found, node, (number, position), axis, value)

    def run(step: int, length: int) -> None:
        probes = probe_inputs(analysis.model, seed + step, length)
        execute(analysis.model, [keras.ops.convert_to_tensor(each) for each in probes], see=see)

    run(0, UNKNOWN_LENGTH)
    try:
        run(1, 2 * UNKNOWN_LENGTH)
    except Exception:  # Whatever a backend raises for a length that a model cannot take.
        if all(None not in tensor.shape[1:] for tensor in analysis.model.inputs):
            raise
        found.holds[:] = False
    return found


def _roots(analysis: Analysis, axis: Axis) -> NDArray[np.int64]:
    return np.stack([analysis.root_of[line] for line in axis.lines])


def _look(
    analysis: Analysis,
    found: Constants,
    node: Any,
    place: tuple[int, int],
    axis: Axis,
    value: Any,
) -> None:
    """One axis, the second of `place`, of one input, the first, of a call."""
    layer = node.operation
    if graph.is_graph(layer) or type(layer) in PASSING:
        return
    roots = _roots(analysis, axis)
    if type(layer) not in READING:
        found.holds[roots] = False
        return
    array = keras.ops.convert_to_numpy(value).astype(np.float64)
    others = tuple(number for number in range(array.ndim) if number != place[1])
    least, most = array.min(axis=others), array.max(axis=others)
    values = (least + most) / 2
    known = found.seen.setdefault((id(layer), *place), values)
    # A shared layer adds one bias to all its calls, so the same constant must reach each of them.
    same = _same(least, most) & _same(known, values)
    if _has_bias_for(layer, place, array.ndim):
        found.reads[id(layer)] = Read(layer, axis, known)
    else:
        same &= values == 0
    found.holds[roots[:, ~same]] = False


def _same(one: Values, other: Values) -> Mask:
    close: Mask = np.abs(one - other) <= NOISE * np.maximum(np.abs(one), np.abs(other))
    return close


def _has_bias_for(layer: Any, place: tuple[int, int], rank: int) -> bool:
    """Whether all outputs read whole constants along this axis, and nothing of padding."""
    number, position = place
    if number != 0 or getattr(layer, "bias", None) is None:
        return False
    if type(layer) is layers.Dense:
        return position == rank - 1
    if type(layer) not in CONVOLUTIONS or layer.groups != 1:
        return False
    return layer.padding == "valid" or all(size == 1 for size in layer.kernel_size)
