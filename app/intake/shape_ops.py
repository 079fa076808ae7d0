"""What a function of keras.ops does to shapes.

Only the common ones, and only where config and arguments tell: for others the shape is `None`.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from app.intake.config import Config, Shape, is_tensor
from app.intake.shape_rules import Shapes, broadcast


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


_SAME = _names(
    "Abs Absolute Arctan Cast Ceil Celu Clip Cos Cumprod Cumsum Elu Erf Exp Expm1 Flip Floor",
    "Gelu HardShrink HardSigmoid HardSilu HardTanh Identity Isfinite Isinf Isnan LayerNorm",
    "LeakyRelu Log Log1p LogSigmoid LogSoftmax LogicalNot Mish NanToNum Negative Normalize",
    "OnesLike Reciprocal Relu Relu6 RMSNorm Roll Round Rsqrt Selu Sigmoid Sign Silu Sin",
    "SoftShrink Softmax Softplus Softsign Sort Sparsemax Sqrt Square Squareplus StopGradient",
    "Tanh TanhShrink Threshold ZerosLike",
)
_BINARY = _names(
    "Add Arctan2 Divide DivideNoNan Equal FloorDivide Greater GreaterEqual Less LessEqual",
    "LogicalAnd LogicalOr LogicalXor Maximum Minimum Mod Multiply NotEqual Power",
    "SquaredDifference Subtract TrueDivide Where",
)
_REDUCTIONS = _names(
    "All Amax Amin Any Argmax Argmin Logsumexp Max Mean Median Min Prod Std Sum Var",
)
PARTS_LIMIT = 10_000
"""A split into more parts is not followed."""


def infer_operation(class_name: str, config: Config, call: Config, inputs: Shapes) -> Shapes:
    """Output shapes of one call of a function.

    Args:
        class_name: as recorded: `Mean`, `GetItem`.
        config: the settings that it was made with.
        call: its serialised arguments, `args` and `kwargs`.
        inputs: shapes of the tensors among these, in their order.
    """
    if not inputs or any(shape is None for shape in inputs):
        return [None]
    shapes = [shape for shape in inputs if shape is not None]
    try:
        if class_name in _SAME:
            return [shapes[0]]
        if class_name in _BINARY:
            return [_combined(call.get("args", []), shapes)]
        if class_name in _REDUCTIONS:
            return [_reduced(config, shapes[0])]
        if class_name == "Split":
            return _split(config, shapes[0])
        if class_name == "GetItem":
            return [_item(call["args"][1], shapes[0])]
        if class_name in ("Concatenate", "Stack", "Matmul"):
            return [_joined(class_name, config, shapes)]
        rule = _RULES.get(class_name)
        return [rule(config, shapes[0]) if rule else None]
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError, AttributeError):
        # Arguments that this reading does not know; loading the model will tell.
        return [None]


def _combined(args: Any, shapes: list[Shape]) -> Shape | None:
    """Element by element; what is no tensor must be a number to be sure of the result."""
    for arg in args:
        if not is_tensor(arg) and not isinstance(arg, (int, float)):
            return None
    rank = max(len(shape) for shape in shapes)
    return broadcast([(1,) * (rank - len(shape)) + shape for shape in shapes])


def _reduced(config: Config, shape: Shape) -> Shape:
    axis = config.get("axis")
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, list) else [axis]
    gone = {int(one) % len(shape) for one in axes}
    if config.get("keepdims"):
        return tuple(1 if index in gone else size for index, size in enumerate(shape))
    return tuple(size for index, size in enumerate(shape) if index not in gone)


def _split(config: Config, shape: Shape) -> Shapes:
    axis, cuts = int(config.get("axis", 0)) % len(shape), config["indices_or_sections"]
    size = shape[axis]
    if isinstance(cuts, list):
        if size is None:
            return [None] * (len(cuts) + 1)
        bounds = [0, *(int(cut) for cut in cuts), size]
        parts = [end - start for start, end in pairwise(bounds)]
    else:
        sound = size is not None and cuts <= min(size, PARTS_LIMIT)
        parts = [size // cuts] * cuts if size is not None and sound else []
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts] or [None]


def _item(key: Any, shape: Shape) -> Shape | None:
    """Indexing with whole numbers, slices, `...` and `None`."""
    keys = key if isinstance(key, list) else [key]
    dots = [index for index, one in enumerate(keys) if _class(one) == "__ellipsis__"]
    used = sum(one is not None for one in keys) - len(dots)
    at = dots[0] if dots else len(keys)
    everything = {"class_name": "__slice__", "config": {}}
    keys = [*keys[:at], *[everything] * (len(shape) - used), *keys[at + 1 :]]
    sizes, found = iter(shape), list[int | None]()
    for one in keys:
        if one is None:
            found.append(1)
        elif type(one) is int:
            next(sizes)
        elif _class(one) == "__slice__":
            found.append(_sliced(one["config"], next(sizes)))
        else:
            return None
    return tuple(found)


def _class(value: Any) -> Any:
    return value.get("class_name") if isinstance(value, dict) else None


def _sliced(config: Config, size: int | None) -> int | None:
    start, stop, step = (config.get(key) for key in ("start", "stop", "step"))
    if size is None:
        return None
    return len(range(*slice(start, stop, step).indices(size)))


def _joined(class_name: str, config: Config, shapes: list[Shape]) -> Shape | None:
    first = shapes[0]
    if class_name == "Stack":
        axis = int(config.get("axis", 0)) % (len(first) + 1)
        return (*first[:axis], len(shapes), *first[axis:])
    if class_name == "Concatenate":
        axis = int(config.get("axis", 0)) % len(first)
        sizes = [shape[axis] for shape in shapes]
        total = None if None in sizes else sum(size for size in sizes if size is not None)
        return (*first[:axis], total, *first[axis + 1 :])
    a, b = shapes
    if len(a) != len(b) or len(a) < 2:
        return None
    return (*broadcast([a[:-2], b[:-2]]), a[-2], b[-1])


def _reshape(config: Config, shape: Shape) -> Shape:
    target = config["newshape"]
    if target.count(-1) != 1:
        return tuple(None if n is None else int(n) for n in target)
    rest = math.prod(int(n) for n in target if n not in (-1, None))
    free = None if None in shape else math.prod(n or 0 for n in shape) // rest
    return tuple(free if n == -1 else n for n in target)


def _transpose(config: Config, shape: Shape) -> Shape:
    axes = config.get("axes")
    return tuple(shape[int(axis)] for axis in axes) if axes else shape[::-1]


def _swap(config: Config, shape: Shape) -> Shape:
    sizes = list(shape)
    a, b = int(config["axis1"]), int(config["axis2"])
    sizes[a], sizes[b] = sizes[b], sizes[a]
    return tuple(sizes)


def _expand(config: Config, shape: Shape) -> Shape | None:
    axis = config["axis"]
    if type(axis) is not int:
        return None
    axis %= len(shape) + 1
    return (*shape[:axis], 1, *shape[axis:])


def _squeeze(config: Config, shape: Shape) -> Shape | None:
    axis = config.get("axis")
    if type(axis) is not int:
        return None
    axis %= len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


def _one_hot(config: Config, shape: Shape) -> Shape | None:
    return (*shape, int(config["num_classes"])) if config.get("axis", -1) == -1 else None


_RULES: Mapping[str, Callable[[Config, Shape], Shape | None]] = MappingProxyType(
    {
        "Reshape": _reshape,
        "Transpose": _transpose,
        "Swapaxes": _swap,
        "ExpandDims": _expand,
        "Squeeze": _squeeze,
        "OneHot": _one_hot,
    }
)
