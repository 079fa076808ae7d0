"""Operations that sum up an axis, or put it in order.

Sums, means, extremes and the like are taken over what stays, in the reduced model as in the
original that it is compared with. Where an order or a number of an index is the result, the axis
stays as it is.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor, bare
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.operands import Arguments, Operand, axes_of, gather


def reduction(call: Call) -> tuple[Tensor, ...]:
    """Over the axes of its setting, or all."""
    x, *others = Arguments(call).operands()
    numbers = _numbers(call, x)
    if x.constant or not all(other.constant for other in others):
        raise Opaque(f"{call.key} sums up by what another tensor says")
    if any(other.axes for other in others) and hasattr(call.layer, "method"):
        # Several quantiles at once come along a new first axis.
        left = [Axis(call.shape[0]), *_left(call, x.axes, numbers)]
    elif any(x.axes[number].named for number in numbers) and others:
        raise Opaque(f"{call.key} weighs units by a constant")
    else:
        left = _left(call, x.axes, numbers)
    gather(call, [(x.number or 0, n, x.axes[n]) for n in numbers if x.axes[n].named])
    return tuple(call.fitted(left, output) for output in range(len(call.output_shapes)))


def ordered(call: Call) -> tuple[Tensor, ...]:
    """Each index of the axis has its own part in the result: all of them stay."""
    x, *others = Arguments(call).operands()
    numbers = _numbers(call, x)
    for other in others:
        call.freeze(other.axes, "uses it to put others in order")
    for number in numbers:
        call.freeze(x.axes[number], "needs all of it, in its order")
    found = []
    for output, shape in enumerate(call.output_shapes):
        if len(shape) == len(x.axes):
            after = [Axis(shape[n]) if n in numbers else axis for n, axis in enumerate(x.axes)]
        elif len(shape) == len(x.axes) - len(numbers):
            after = [axis for n, axis in enumerate(x.axes) if n not in numbers]
        else:
            call.freeze(x.axes, "flattens it")
            after = list(bare(shape))
        found.append(call.fitted(after, output))
    return tuple(found)


def _numbers(call: Call, x: Operand) -> list[int]:
    operation: Any = call.layer
    if hasattr(operation, "k") and not hasattr(operation, "axis"):
        return [len(x.axes) - 1]
    given = operation.axes if hasattr(operation, "axes") else operation.axis
    return axes_of(call, given, len(x.axes))


def _left(call: Call, axes: Sequence[Axis], numbers: Sequence[int]) -> list[Axis]:
    if getattr(call.layer, "keepdims", False):
        return [Axis(1) if n in numbers else axis for n, axis in enumerate(axes)]
    return [axis for n, axis in enumerate(axes) if n not in numbers]


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(
            reduction,
            *("All", "Any", "Amax", "Amin", "Average", "CountNonzero", "Logsumexp", "Max", "Mean"),
            *("Median", "Min", "Moments", "Nanmax", "Nanmean", "Nanmedian", "Nanmin"),
            *("Nanpercentile", "Nanprod", "Nanquantile", "Nanstd", "Nansum", "Nanvar", "Norm"),
            *("Percentile", "Prod", "Ptp", "Quantile", "Std", "Sum", "Var"),
        ),
        **each(
            ordered,
            *("Argmax", "Argmin", "Argpartition", "Argsort", "Cumprod", "Cumsum", "Diff"),
            *("LogSoftmax", "Nanargmax", "Nanargmin", "Nancumprod", "Nancumsum", "Softmax"),
            *("Sort", "Sparsemax", "TopK"),
        ),
    }
)
