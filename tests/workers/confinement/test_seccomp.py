"""The filter, run by a small interpreter of BPF: for both machines, whatever this one is."""

import errno

import pytest

from app.confinement import bpf, seccomp
from app.confinement.bpf import Instruction
from app.confinement.syscalls import ARCHITECTURES, NUMBERS, Architecture

PID = 4711
EPERM = bpf.errno(errno.EPERM)
ENOSYS = bpf.errno(errno.ENOSYS)
X86, ARM = ARCHITECTURES["x86_64"], ARCHITECTURES["aarch64"]
MACHINES = pytest.mark.parametrize("machine", [X86, ARM], ids=["x86_64", "aarch64"])


def run(program: list[Instruction], audit: int, number: int, *arguments: int) -> int:
    """What the kernel would do with a call."""
    data = {bpf.NUMBER_OFFSET: number & 0xFFFFFFFF, bpf.ARCHITECTURE_OFFSET: audit}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        data[bpf.ARGUMENTS_OFFSET + 8 * index] = value & 0xFFFFFFFF
    accumulator, place = 0, 0
    while True:
        code, if_true, if_false, value = program[place]
        place += 1
        if code == bpf.RETURN:
            return value
        if code == bpf.LOAD:
            accumulator = data[value]
            continue
        holds = {
            bpf.JUMP_EQUAL: accumulator == value,
            bpf.JUMP_AT_LEAST: accumulator >= value,
            bpf.JUMP_ANY_BIT: bool(accumulator & value),
        }[code]
        place += if_true if holds else if_false


def verdict(machine: Architecture, name: str, *arguments: int) -> int:
    number = machine.number(name)
    assert number is not None
    return run(seccomp.program(machine, PID), machine.audit, number, *arguments)


@MACHINES
def test_every_name_gets_its_action(machine: Architecture) -> None:
    for names, action in (
        (seccomp.DENIED, EPERM),
        (seccomp.ABSENT, ENOSYS),
        (seccomp.FATAL, bpf.KILL),
    ):
        for name in names:
            if machine.number(name) is not None:
                assert verdict(machine, name) == action, name


def test_every_number_is_looked_at() -> None:
    by_arguments = {"clone", "prlimit64", "prctl", "fcntl", "ioctl"}
    named = {*seccomp.DENIED, *seccomp.ABSENT, *seccomp.FATAL, *seccomp.OWN_PROCESS_ONLY}
    assert named | by_arguments == set(NUMBERS)


@pytest.mark.parametrize(
    ("machine", "number"), [(X86, 0), (X86, 1), (X86, 9), (ARM, 63), (ARM, 64), (ARM, 222)]
)
def test_reading_writing_and_mapping_go_on(machine: Architecture, number: int) -> None:
    assert run(seccomp.program(machine, PID), machine.audit, number) == bpf.ALLOW


@MACHINES
def test_calls_of_another_machine_kill(machine: Architecture) -> None:
    program = seccomp.program(machine, PID)
    i386 = 0x40000003
    assert run(program, i386, 1) == bpf.KILL
    other = ARM if machine is X86 else X86
    assert run(program, other.audit, 0) == bpf.KILL


def test_x32_calls_kill() -> None:
    assert run(seccomp.program(X86, PID), X86.audit, 0x40000000) == bpf.KILL
    assert run(seccomp.program(X86, PID), X86.audit, 0x40000000 + 520) == bpf.KILL


@MACHINES
@pytest.mark.parametrize(
    ("name", "arguments", "action"),
    [
        ("kill", (PID, 9), bpf.ALLOW),
        ("kill", (PID + 1, 0), EPERM),
        ("kill", (0, 9), EPERM),
        ("kill", (-1, 9), EPERM),
        ("kill", (-PID, 9), EPERM),
        ("tgkill", (PID, 4712, 33), bpf.ALLOW),
        ("tgkill", (1, 1, 9), EPERM),
        # glibc's flags for a thread, for fork, for vfork and posix_spawn.
        ("clone", (0x003D0F00,), bpf.ALLOW),
        ("clone", (0x01200011,), EPERM),
        ("clone", (0x00004111,), EPERM),
        ("clone", (0x003D0F00 | 0x40000000,), EPERM),
        ("clone", (0x003D0F00 | 0x10000000,), EPERM),
        ("prctl", (15,), bpf.ALLOW),
        ("prctl", (1, 0), EPERM),
        ("prctl", (4, 1), EPERM),
        ("prlimit64", (0, 7), bpf.ALLOW),
        ("prlimit64", (PID, 7), bpf.ALLOW),
        ("prlimit64", (1, 7), EPERM),
        ("fcntl", (3, 4), bpf.ALLOW),
        ("fcntl", (3, 8, 1), EPERM),
        ("fcntl", (3, 15, 1), EPERM),
        ("ioctl", (0, 0x5401), bpf.ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
    ],
)
def test_arguments_decide(
    machine: Architecture, name: str, arguments: tuple[int, ...], action: int
) -> None:
    assert verdict(machine, name, *arguments) == action


@MACHINES
def test_the_program_is_one_that_the_kernel_takes(machine: Architecture) -> None:
    program = seccomp.program(machine, PID)
    assert len(program) < 4096
    for place, (code, if_true, if_false, _) in enumerate(program):
        assert max(if_true, if_false) < 256
        if code not in (bpf.RETURN, bpf.LOAD):
            assert place + 1 + max(if_true, if_false) < len(program)
    assert program[-1].code == bpf.RETURN
