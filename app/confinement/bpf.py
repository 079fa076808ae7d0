"""Classic BPF programs for seccomp: a few instructions, and the conditions made of them.

A condition is a list of instructions that returns on every path. <linux/filter.h>,
<linux/seccomp.h>
"""

from typing import NamedTuple

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16

ALLOW = 0x7FFF0000
KILL = 0x80000000
"""The whole process, with SIGSYS."""


class Instruction(NamedTuple):
    """One `struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    value: int


def errno(number: int) -> int:
    """The action that lets the call fail with an error number."""
    return 0x00050000 | number


def returns(action: int) -> Instruction:
    """End here."""
    return Instruction(RETURN, 0, 0, action)


def load(offset: int) -> Instruction:
    """Take 32 bits of `struct seccomp_data` into the accumulator."""
    return Instruction(LOAD, 0, 0, offset)


def argument(index: int) -> Instruction:
    """Take the lower half of an argument; both machines are little-endian, and the arguments that
    filters look at have 32 bits."""
    return load(ARGUMENTS_OFFSET + 8 * index)


def one_of(index: int, values: tuple[int, ...], then: int, otherwise: int) -> list[Instruction]:
    """`then` where an argument is one of these values."""
    program = [argument(index)]
    for value in values:
        program += [Instruction(JUMP_EQUAL, 0, 1, value & 0xFFFFFFFF), returns(then)]
    return [*program, returns(otherwise)]


def on_call(number: int, block: list[Instruction]) -> list[Instruction]:
    """Go through `block` where the accumulator holds this call's number, else past it."""
    return [Instruction(JUMP_EQUAL, 0, len(block), number), *block]
