"""The seccomp filter: what a job's process may not ask of the kernel.

A list of what is denied, because TensorFlow's needs change with its versions; Landlock and the
missing privileges stand behind it. What libraries try in good faith fails with an error number;
what none of them needs ends the process with SIGSYS.
"""

import ctypes
import errno
import os

from app.confinement import bpf
from app.confinement.bpf import ALLOW, KILL, Instruction
from app.confinement.kernel import LINUX, MACHINE, syscall
from app.confinement.syscalls import ARCHITECTURES, Architecture
from app.domain.confinement import Mechanism

SET_MODE_FILTER = 1
FLAG_TSYNC = 1

CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020080
PRCTL_DENIED = (
    1,  # PR_SET_PDEATHSIG: it ends with its parent
    4,  # PR_SET_DUMPABLE
    0x59616D61,  # PR_SET_PTRACER
)
FCNTL_DENIED = (8, 15)
"""F_SETOWN and F_SETOWN_EX have the kernel send signals to others."""
IOCTL_DENIED = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into a terminal."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DENIED = _names("""
    fork vfork execve execveat unshare setsid setpgid
    socket socketpair connect bind listen accept accept4
    tkill pidfd_open pidfd_getfd pidfd_send_signal
    kcmp statmount listmount quotactl quotactl_fd syslog personality mknod mknodat
    settimeofday clock_settime adjtimex clock_adjtime perf_event_open modify_ldt
    name_to_handle_at memfd_secret migrate_pages move_pages
    shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl mq_open
    ioprio_set setpriority
""")
"""EPERM. No program is started and no process made; no socket of any kind is opened."""

ABSENT = _names("clone3 io_uring_setup io_uring_enter io_uring_register")
"""ENOSYS: the C library then uses clone, whose flags a filter can read, and libraries do without
io_uring."""

FATAL = _names("""
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease
    mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount
    fspick mount_setattr setns swapon swapoff acct reboot sethostname setdomainname vhangup
    fanotify_init bpf add_key request_key keyctl kexec_load kexec_file_load
    init_module finit_module delete_module create_module uselib iopl ioperm
    userfaultfd open_by_handle_at
""")
"""SIGSYS: only an attack asks for these."""

OWN_PROCESS_ONLY = _names("kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo")
"""Their first argument must be this process' id: no other process, no group, not everybody."""


def program(machine: Architecture, pid: int) -> list[Instruction]:
    """The filter for a process with this id."""
    code = [
        bpf.load(bpf.ARCHITECTURE_OFFSET),
        Instruction(bpf.JUMP_EQUAL, 1, 0, machine.audit),
        bpf.returns(KILL),
        bpf.load(bpf.NUMBER_OFFSET),
    ]
    if machine.x32 is not None:
        code += [Instruction(bpf.JUMP_AT_LEAST, 0, 1, machine.x32), bpf.returns(KILL)]
    for name, block in _blocks(pid).items():
        number = machine.number(name)
        if number is not None:
            code += bpf.on_call(number, block)
    return [*code, bpf.returns(ALLOW)]


def _blocks(pid: int) -> dict[str, list[Instruction]]:
    denied = bpf.errno(errno.EPERM)
    blocks = {name: bpf.one_of(0, (pid,), ALLOW, denied) for name in OWN_PROCESS_ONLY}
    blocks["clone"] = _threads_only(denied)
    blocks["prlimit64"] = bpf.one_of(0, (0, pid), ALLOW, denied)
    blocks["prctl"] = bpf.one_of(0, PRCTL_DENIED, denied, ALLOW)
    blocks["fcntl"] = bpf.one_of(1, FCNTL_DENIED, denied, ALLOW)
    blocks["ioctl"] = bpf.one_of(1, IOCTL_DENIED, denied, ALLOW)
    for names, action in (
        (DENIED, denied),
        (ABSENT, bpf.errno(errno.ENOSYS)),
        (FATAL, KILL),
    ):
        blocks |= {name: [bpf.returns(action)] for name in names}
    return blocks


def _threads_only(denied: int) -> list[Instruction]:
    """clone(2) for threads, and without new namespaces."""
    return [
        bpf.argument(0),
        Instruction(bpf.JUMP_ANY_BIT, 0, 1, CLONE_NAMESPACES),
        bpf.returns(denied),
        Instruction(bpf.JUMP_ANY_BIT, 0, 1, CLONE_THREAD),
        bpf.returns(ALLOW),
        bpf.returns(denied),
    ]


class _Filter(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter))]


def apply() -> Mechanism:
    """Install the filter in all threads of this process, for good. `no_new_privs` must be set."""
    if not LINUX or MACHINE not in ARCHITECTURES:
        return Mechanism(detail=f"needs Linux on {' or '.join(ARCHITECTURES)}; this is {MACHINE}")
    machine = ARCHITECTURES[MACHINE]
    code = program(machine, os.getpid())
    filters = (_Filter * len(code))(*(_Filter(*instruction) for instruction in code))
    whole = _Program(len(code), filters)
    try:
        left_out = syscall(
            "seccomp", machine.seccomp, SET_MODE_FILTER, FLAG_TSYNC, ctypes.byref(whole)
        )
    except OSError as error:
        return Mechanism(detail=str(error))
    if left_out:
        return Mechanism(detail=f"thread {left_out} cannot take the filter")
    return Mechanism(active=True, detail="all threads")
