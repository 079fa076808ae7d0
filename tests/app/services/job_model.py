"""A job as a pure function: what each operation answers, and what it makes of the job.

The real services are compared with it, one operation after the other and many at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

ENDED = ("succeeded", "failed", "cancelled")
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class JobModel:
    """All that decides what operations do."""

    state: str = "queued"
    """Or `gone`."""
    fence: int = 0
    allowed: int = MAX_ATTEMPTS
    cancel: bool = False
    expired: bool = False


@dataclass(frozen=True)
class Operation:
    """One call, by a user or by the attempt `fence`; `status` is how an attempt wants to end."""

    name: str
    fence: int = 0
    status: str = ""


Step = tuple[JobModel, Any]


def step(job: JobModel, operation: Operation) -> Step:
    """The job afterwards, and the answer: a status, a number, or an error's name."""
    return STEPS[operation.name](job, operation)


def _cancel(job: JobModel, _: Operation) -> Step:
    if job.state == "gone":
        return job, "NotFound"
    if job.state in ("succeeded", "failed"):
        return job, "WrongState"
    if job.state == "queued":
        return replace(job, state="cancelled", cancel=True), "cancelled"
    return replace(job, cancel=True), job.state


def _retry(job: JobModel, _: Operation) -> Step:
    if job.state == "gone":
        return job, "NotFound"
    if job.state == "succeeded" or (job.state == "running" and job.cancel):
        return job, "WrongState"
    if job.state in ("failed", "cancelled"):
        allowed = job.fence + MAX_ATTEMPTS
        return replace(job, state="queued", cancel=False, allowed=allowed), "queued"
    return job, job.state


def _delete(job: JobModel, _: Operation) -> Step:
    if job.state == "gone":
        return job, "NotFound"
    if job.state not in ENDED:
        return job, "WrongState"
    return JobModel(state="gone"), None


def _claim(job: JobModel, _: Operation) -> Step:
    free = job.state == "queued" or (job.state == "running" and job.expired)
    if not free or job.cancel or job.fence >= job.allowed:
        return job, None
    return replace(job, state="running", fence=job.fence + 1, expired=False), job.fence + 1


def _is_mine(job: JobModel, operation: Operation) -> bool:
    return job.state == "running" and job.fence == operation.fence


def _heartbeat(job: JobModel, operation: Operation) -> Step:
    if not _is_mine(job, operation):
        return job, "LeaseLost"
    return replace(job, expired=False), job.cancel


def _report(job: JobModel, operation: Operation) -> Step:
    return job, None if _is_mine(job, operation) else "LeaseLost"


def _finish(job: JobModel, operation: Operation) -> Step:
    if not _is_mine(job, operation):
        return job, "LeaseLost"
    status = operation.status
    if status == "succeeded" and job.cancel:
        status = "cancelled"
    return replace(job, state=status, expired=False), status


def _hand_back(job: JobModel, operation: Operation) -> Step:
    if not _is_mine(job, operation):
        return job, None
    state = "cancelled" if job.cancel else "queued"
    return replace(job, state=state, allowed=job.allowed + 1, expired=False), None


def _given_up(job: JobModel) -> JobModel:
    unless = "failed" if job.fence >= job.allowed else "queued"
    state = "cancelled" if job.cancel else unless
    return replace(job, state=state, expired=False)


def _postpone(job: JobModel, operation: Operation) -> Step:
    return (_given_up(job) if _is_mine(job, operation) else job), None


def _expire(job: JobModel, _: Operation) -> Step:
    return (replace(job, expired=True) if job.state == "running" else job), None


def _reap(job: JobModel, _: Operation) -> Step:
    lost = job.state == "running" and job.expired
    return (_given_up(job) if lost else job), lost


STEPS: dict[str, Callable[[JobModel, Operation], Step]] = {
    "cancel": _cancel,
    "retry": _retry,
    "delete": _delete,
    "claim": _claim,
    "heartbeat": _heartbeat,
    "report": _report,
    "finish": _finish,
    "hand_back": _hand_back,
    "postpone": _postpone,
    "expire": _expire,
    "reap": _reap,
}


@dataclass(frozen=True)
class Done:
    """An operation of a concurrent history, with the interval in which it took effect."""

    operation: Operation
    began: float
    ended: float
    answer: Any


def linearizable(history: Sequence[Done], last: JobModel, first: JobModel | None = None) -> bool:
    """Whether some order explains all answers and the last state, in which no operation comes
    before one that had ended when it began (Wing and Gong, 1993)."""
    dead: set[tuple[frozenset[int], JobModel]] = set()

    def search(left: frozenset[int], job: JobModel) -> bool:
        if not left:
            return job == last
        if (left, job) in dead:
            return False
        first_end = min(history[i].ended for i in left)
        for i in left:
            if history[i].began > first_end:
                continue
            after, answer = step(job, history[i].operation)
            if answer == history[i].answer and search(left - {i}, after):
                return True
        dead.add((left, job))
        return False

    return search(frozenset(range(len(history))), first or JobModel())
