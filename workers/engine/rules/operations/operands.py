"""What an operation is called with: tensors of the graph, and constants that follow their names."""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from workers.engine.channels import Argument, Call, Opaque, Place, Run, Values
from workers.engine.ids import Axis, Tensor, bare


@dataclass(frozen=True)
class Operand:
    """A tensor that comes in, or a constant (`number` is None), and where it stands."""

    place: Place
    axes: Tensor
    number: int | None = None
    """Number of the input."""
    value: Any = None
    """The constant, as it was given."""

    @property
    def constant(self) -> bool:
        """Whether it is the same at every call."""
        return self.number is None


class Arguments:
    """The arguments of an operation's call by the names that its `call` gives them."""

    def __init__(self, call: Call) -> None:
        if call.node is None:
            raise Opaque(f"{call.key} is called inside another layer")
        self._call = call
        self._numbers: dict[int, list[int]] = {}
        for number, tensor in enumerate(call.node.input_tensors):
            self._numbers.setdefault(id(tensor), []).append(number)
        given = call.node.arguments
        self._given: dict[str, tuple[Place, Any]] = {}
        names = list(_positional(call.layer, len(given.args)))
        for position, value in enumerate(given.args):
            self._given[names[position]] = ((position,), value)
        for name, value in given.kwargs.items():
            self._given[name] = ((name,), value)

    def raw(self, name: str, default: Any = None) -> Any:
        """An argument as it was given."""
        return self._given.get(name, ((), default))[1]

    def place(self, name: str) -> Place:
        """Where an argument stands, or would as a keyword."""
        return self._given.get(name, ((name,), None))[0]

    def operands(self, *names: str) -> list[Operand]:
        """Those of the named arguments, or of all, lists of tensors one by one; no Nones."""
        found: list[Operand] = []
        for name in names or self._given:
            if name in self._given:
                found.extend(self._flat(*self._given[name]))
        return found

    def operand(self, name: str) -> Operand | None:
        """The only one of an argument.

        Raises:
            Opaque: it is a list of tensors.
        """
        found = self.operands(name)
        if len(found) > 1:
            raise Opaque(f"{self._call.key} is called with {len(found)} tensors")
        return found[0] if found else None

    def tensor(self, name: str) -> Operand:
        """As above, known to come from the graph.

        Raises:
            Opaque: it is a constant.
        """
        found = self.operand(name)
        if found is None or found.constant:
            raise Opaque(f"{self._call.key} is called with a constant {name}")
        return found

    def _flat(self, place: Place, value: Any) -> Iterator[Operand]:
        if value is None:
            return
        if isinstance(value, keras.KerasTensor):
            # A tensor that is given twice is two inputs.
            numbers = self._numbers[id(value)]
            number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
            yield Operand(place, self._call.inputs[number], number)
        elif isinstance(value, (list, tuple)) and _holds_tensors(value):
            for position, part in enumerate(value):
                yield from self._flat((*place, position), part)
        else:
            yield Operand(place, bare(array(self._call, value).shape), None, value)


def _positional(operation: Any, count: int) -> Iterator[str]:
    parameters = list(inspect.signature(operation.call).parameters.values())
    for position in range(count):
        known = parameters[min(position, len(parameters) - 1)]
        variadic = known.kind is inspect.Parameter.VAR_POSITIONAL
        yield f"*{position}" if variadic or position >= len(parameters) else known.name


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(part) for part in value)
    return isinstance(value, keras.KerasTensor)


def array(call: Call, value: Any) -> NDArray[Any]:
    """A constant's numbers.

    Raises:
        Opaque: it is not made of numbers, or belongs to a layer.
    """
    if isinstance(value, keras.Variable):
        raise Opaque(f"{call.key} reads a variable of another layer")
    try:
        if keras.ops.is_tensor(value):
            value = keras.ops.convert_to_numpy(value)
        found = np.asarray(value)
    except (TypeError, ValueError):
        found = np.asarray(None)
    if found.dtype.kind == "O":
        raise Opaque(f"{call.key} is called with a constant that is no array")
    return found


def alike(value: Any, numbers: NDArray[Any]) -> Any:
    """Numbers as the kind of constant that `value` is."""
    if keras.ops.is_tensor(value):
        return keras.ops.convert_to_tensor(numbers, dtype=value.dtype)
    return numbers if isinstance(value, np.ndarray) else numbers.tolist()


def follow(
    call: Call, operand: Operand, axes: Mapping[int, Axis], spread: Collection[int] = ()
) -> None:
    """Let a constant lose what these axes lose, by the number of its own axis.

    Axes of size 1 that are to be `spread` are written out as often as something stays.
    """
    mine = {
        n: axis
        for n, axis in axes.items()
        if axis.named and (operand.axes[n].size == axis.size or n in spread)
    }
    if not operand.constant or not mine:
        return
    value = operand.value

    def render(stays: tuple[NDArray[np.bool_] | None, ...]) -> Any:
        numbers = array(call, value)
        for number, keep in zip(mine, stays, strict=True):
            if keep is None:
                continue
            if number in spread:
                numbers = np.repeat(numbers, np.count_nonzero(keep), axis=number)
            else:
                numbers = np.compress(keep, numbers, axis=number)
        return alike(value, numbers)

    call.walk.arguments.append(Argument(call.node, operand.place, tuple(mine.values()), render))


Cuts = Sequence[tuple[int, int, Axis]]
"""Number of the input, number of its axis, and the axis."""


def silence(call: Call, cuts: Cuts) -> None:
    """What is removed of these axes counts as zero in the original's call."""

    def compute(run: Run, inputs: list[Values], kept: Any) -> list[Values]:
        inputs = list(inputs)
        for number, along, axis in cuts:
            view = [1] * inputs[number].ndim
            view[along] = -1
            stays = kept(axis).reshape(view)
            inputs[number] = np.where(stays, inputs[number], np.zeros_like(inputs[number]))
        return run(inputs)

    if cuts:
        call.walk.references[id(call.node)] = compute


def gather(call: Call, cuts: Cuts) -> None:
    """The original's call sees what remains of these axes only; its output lacks them."""

    def compute(run: Run, inputs: list[Values], kept: Any) -> list[Values]:
        inputs = list(inputs)
        for number, along, axis in cuts:
            inputs[number] = np.compress(kept(axis), inputs[number], axis=along)
        return run(inputs)

    if cuts:
        call.walk.references[id(call.node)] = compute


def axes_of(call: Call, given: Any, rank: int) -> list[int]:
    """An axis setting (a number, several, or None for all) as ascending numbers."""
    if given is None:
        return list(range(rank))
    several = given if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(number, int) and -rank <= number < rank for number in several):
        raise Opaque(f"{call.key} works along axis {given}")
    return sorted(number % rank for number in several)


def axis_of(call: Call, given: Any, rank: int) -> int:
    """As above, one number.

    Raises:
        Opaque: it flattens its input first.
    """
    if given is None:
        raise Opaque(f"{call.key} flattens what it is given, the batch with it")
    return axes_of(call, given, rank)[0]
