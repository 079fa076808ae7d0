"""Operations that treat every value by itself, after numpy's broadcasting from the right."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from workers.engine.channels import Call, Opaque, Rule
from workers.engine.ids import Axis, Tensor
from workers.engine.rules.operations.classes import each
from workers.engine.rules.operations.operands import Arguments, Operand, follow


def elementwise(call: Call) -> tuple[Tensor, ...]:
    """All arguments meet."""
    _only_numbers(call.layer, call.key)
    return (broadcast(call, Arguments(call).operands()),)


def added(call: Call) -> tuple[Tensor, ...]:
    """As above, but Keras' TensorFlow backend adds a constant with one wide axis as a bias: to the
    last axis if that is as long, else to the second, wherever the wide axis is.
    """
    operands, shape = Arguments(call).operands(), call.shape
    spread: dict[int, list[int]] = {}
    for position, operand in enumerate(operands[1:], start=1):
        rank = len(operand.axes)
        wide = [n for n in range(rank) if operand.axes[n].size != 1]
        if not operand.constant or len(wide) != 1 or wide[0] == rank - 1:
            continue
        size, place = operand.axes[wide[0]].size, wide[0] + len(shape) - rank
        if shape[-1] == size or (place != 1 and shape[1] == size):
            raise Opaque(f"{call.key} adds a constant along an axis that backends disagree on")
        # Spread over the channels, it is no bias however many of them stay.
        spread[position] = [rank - 1]
    return (broadcast(call, operands, spread),)


def first_only(call: Call) -> tuple[Tensor, ...]:
    """The first argument, against all of a constant second one (bins, a set of values)."""
    first, *rest = Arguments(call).operands()
    if first.constant or not all(other.constant for other in rest):
        raise Opaque(f"{call.key} compares a tensor with all of another")
    return (call.fitted(first.axes),)


def _only_numbers(operation: Any, key: str) -> None:
    for setting, value in vars(operation).items():
        if not setting.startswith("_") and isinstance(value, (list, tuple)):
            raise Opaque(f"{key} has a {setting} of its own for each of several values")


def broadcast(
    call: Call, operands: Sequence[Operand], spread: Mapping[int, Sequence[int]] | None = None
) -> Tensor:
    """The axes of values that meet; constants are cut to the names that they meet.

    `spread`: by position of an operand, axes of size 1 that are written out.
    """
    rank = len(call.shape)
    out = [met(call, *_column(operands, number - rank)) for number in range(rank)]
    for position, operand in enumerate(operands):
        skipped = rank - len(operand.axes)
        met_by = {n: out[n + skipped] for n in range(len(operand.axes))}
        follow(call, operand, met_by, (spread or {}).get(position, ()))
    return call.fitted(out)


def _column(operands: Sequence[Operand], number: int) -> tuple[list[Axis], list[Axis]]:
    """Those of tensors, and of constants, that an axis from the right has."""
    columns: tuple[list[Axis], list[Axis]] = ([], [])
    for operand in operands:
        if -number <= len(operand.axes):
            columns[operand.constant].append(operand.axes[number])
    return columns


def met(call: Call, tensors: Sequence[Axis], constants: Sequence[Axis]) -> Axis:
    """The axis that several become; those of constants have no names.

    An axis of size 1 that meets many is one unit for all of them: it stays.
    """
    wide = [axis for axis in tensors if axis.size != 1]
    spread = wide or [axis for axis in constants if axis.size != 1]
    if not spread:
        wide = list(tensors)
    else:
        for axis in tensors:
            if axis.size == 1:
                call.freeze(axis, "broadcasts it over many channels")
    if not wide:
        return (spread or list(constants))[0]
    result = wide[0]
    for axis in wide[1:]:
        result = call.walk.unite(result, axis, call.key)
    return result


RULES: Mapping[type, Rule] = MappingProxyType(
    {
        **each(
            elementwise,
            *("Absolute", "Abs", "Fabs", "Angle", "Arccos", "Arccosh", "Arcsin", "Arcsinh"),
            *("Arctan", "Arctanh", "Array", "BitwiseInvert", "BitwiseNot", "Cbrt", "Ceil", "Clip"),
            *("Conjugate", "Conj", "Copy", "Cos", "Cosh", "Deg2rad", "Rad2deg", "Exp", "Exp2"),
            *("Expm1", "Floor", "FullLike", "Imag", "I0", "Isfinite", "Isinf", "Isnan"),
            *("Isneginf", "Isposinf", "Isreal", "Log", "Log10", "Log1p", "Log2", "LogicalNot"),
            *("NanToNum", "Negative", "OnesLike", "Real", "Reciprocal", "Round", "Sign"),
            *("Signbit", "Sin", "Sinc", "Sinh", "Sqrt", "Square", "Tan", "Tanh", "Trunc"),
            *("ZerosLike", "Cast", "ConvertToTensor", "SaturateCast", "StopGradient"),
            *("Erf", "Erfc", "Erfinv", "Rsqrt"),
        ),
        **each(
            elementwise,
            *("Relu", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SoftShrink"),
            *("SparsePlus", "Silu", "Squareplus", "LogSigmoid", "LeakyRelu", "HardSigmoid"),
            *("HardSilu", "Elu", "Selu", "Gelu", "Celu", "TanhShrink", "HardTanh", "HardShrink"),
            *("Threshold", "BinaryCrossentropy"),
        ),
        **each(
            elementwise,
            *("Arctan2", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseLeftShift"),
            *("LeftShift", "BitwiseRightShift", "RightShift", "Divide", "DivideNoNan", "Equal"),
            *("FloorDivide", "Fmax", "Fmin", "Fmod", "Gcd", "Greater", "GreaterEqual"),
            *("Heaviside", "Hypot", "Isclose", "Lcm", "Ldexp", "Less", "LessEqual", "Logaddexp"),
            *("Logaddexp2", "LogicalAnd", "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod"),
            *("Multiply", "Nextafter", "NotEqual", "Polar", "Power", "Select", "Subtract"),
            *("TrueDivide", "Where"),
        ),
        **each(added, "Add"),
        **each(first_only, "Digitize", "IsIn"),
    }
)
