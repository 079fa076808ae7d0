"""How a job's process ends badly, and what the user is told: each limit by its name."""

import errno
import re
import signal

from app.domain.errors import (
    ChildCrashed,
    ForbiddenOperation,
    InternalError,
    JobError,
    OutOfMemory,
    ResourceLimitReached,
    TimeLimitReached,
)
from workers.confinement.limits import Limits

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
"""Keras colours its messages."""
GIB = 2**30
FENCE = (
    "A job's process may read its own folder and Python's libraries, write its scratch and out "
    "folders, and nothing else: no network, no other programs or processes, no signals to others."
)


def gib(size: int) -> str:
    """A size for people: `4 GiB`."""
    return f"{size / GIB:.3g} GiB"


# --- told by the child about itself --------------------------------------------------------
def from_exception(error: BaseException, limits: Limits) -> JobError:
    """What an exception that nobody expected means for the job."""
    said = f"{type(error).__name__}: {ESCAPES.sub('', str(error))[:2000]}"
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return out_of_memory(limits)
    if isinstance(error, PermissionError):
        return ForbiddenOperation(f"{said}. {FENCE}")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return ResourceLimitReached(
            f"The job wants more than the {limits.processes} processes and threads a job may have."
        )
    if isinstance(error, OSError):
        if error.errno == errno.EFBIG:
            return ResourceLimitReached(
                f"The job wants to write a file larger than the {gib(limits.file_bytes)} a job's "
                "file may have."
            )
        if error.errno == errno.EMFILE:
            return ResourceLimitReached(
                f"The job wants more than the {limits.open_files} open files a job may have."
            )
    return InternalError(f"{said}. The artifact log.txt has the rest.")


def out_of_memory(limits: Limits) -> OutOfMemory:
    """More address space than the limit."""
    return OutOfMemory(
        f"The job needs more than the {gib(limits.memory_bytes)} of memory a job may use here; a "
        "smaller batch_size, or a smaller model, may fit."
    )


# --- seen by the parent ----------------------------------------------------------------------
def from_exit_status(status: int, last_words: str, limits: Limits, cpu_seconds: float) -> JobError:
    """What the end of a process without a result means.

    Args:
        status: the exit status, or minus the number of the signal that ended the process.
        last_words: the end of its log.
        limits: those that it ran under.
        cpu_seconds: CPU time that it used.
    """
    if "MemoryError" in last_words or "bad_alloc" in last_words:
        return out_of_memory(limits)
    if status == -signal.SIGKILL and cpu_seconds > limits.cpu_seconds:
        # Who ignores SIGXCPU is killed at the hard limit.
        return _out_of_cpu_time(limits)
    match -status:
        case signal.SIGKILL:
            return OutOfMemory(
                "The system ended the job's process for want of memory: the machine, or the "
                "worker's container, has less left than the "
                f"{gib(limits.memory_bytes)} of memory a job may use; a smaller batch_size, or a "
                "smaller model, may fit."
            )
        case signal.SIGXCPU:
            return _out_of_cpu_time(limits)
        case signal.SIGXFSZ:
            return ResourceLimitReached(
                f"The job wrote a file larger than the {gib(limits.file_bytes)} a job's file may "
                "have."
            )
        case signal.SIGSYS:
            return ForbiddenOperation(
                f"The job's process made a system call that only an attack would make. {FENCE}"
            )
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return ChildCrashed(
        f"The job's process ended with {name} and without a result. Its last words: "
        f"{last_words[-500:] or 'none'}"
    )


def _out_of_cpu_time(limits: Limits) -> TimeLimitReached:
    return TimeLimitReached(
        f"The job used up the {limits.cpu_seconds} s of CPU time a job may use."
    )
