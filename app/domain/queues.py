"""Queues by what a job needs, and whose turn it is.

The order in which jobs start is decided when a worker asks, from the rows alone:

1. of each owner's waiting jobs, the one with the lowest `rank` stands at the head: the oldest,
   where each step of priority counts as `priority_seconds` of waiting more;
2. of these heads, the one with the highest level goes first. The level is the priority, plus one
   for each `priority_seconds` that the owner has waited to be served: nobody starves;
3. among equal levels the owner with the fewest running jobs, then the one that was served longest
   ago, then the lower id.
"""

from typing import Literal, get_args

from pydantic import Field

from app.domain.base import Record, Strict

QueueName = Literal["jobs", "quick", "gpu", "large"]
QUEUES: tuple[QueueName, ...] = get_args(QueueName)
SERVES: dict[QueueName, str] = {
    "jobs": "jobs that need nothing special",
    "quick": "dry runs and analyses",
    "gpu": "jobs that need a GPU",
    "large": "jobs that need more memory than usual",
}
LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10


class Resources(Strict):
    """What the worker's machine must have. A job that no living worker can take waits, and says so
    in `waiting_reason`."""

    accelerator: Literal["none", "gpu"] = "none"
    """`gpu`: only workers of the queue `gpu` take the job."""
    memory_bytes: int | None = Field(default=None, ge=1, le=2**50)
    """What the job's process must be allowed; only workers whose limit is at least that take it.
    Above the service's usual limit the job goes to the queue `large`. Left out: the usual limit."""


def queue_of(resources: Resources, usual_memory_bytes: int) -> QueueName:
    """The queue that a job with these needs waits in."""
    if resources.accelerator == "gpu":
        return "gpu"
    return "large" if (resources.memory_bytes or 0) > usual_memory_bytes else "jobs"


def rank(queued_at: float, priority: int, priority_seconds: float) -> float:
    """Place among the owner's own jobs, lower first.

    Waiting counts for all alike, so that this order never changes while they wait.
    """
    return queued_at - priority * priority_seconds


class Head(Record):
    """The first of an owner's waiting jobs, and how the owner stands."""

    job: str
    owner: str
    priority: int
    waiting_since: float
    """Since when the owner waits to be served: the job's arrival, or the owner's last start."""
    running: int
    """Jobs of the owner that run."""

    def turn(self, now: float, priority_seconds: float) -> tuple[float, int, float, str]:
        """Sorts heads into the order in which they go."""
        waited = max(now - self.waiting_since, 0.0)
        level = self.priority + waited // priority_seconds
        return -level, self.running, self.waiting_since, self.job


def no_worker(queue: QueueName, memory_bytes: int) -> str:
    """Why a job waits that no living worker can take."""
    what = SERVES[queue]
    if memory_bytes:
        what += f" with {memory_bytes:,} bytes of memory"
    memory = f"SECATEUR_JOB_MEMORY_BYTES={memory_bytes} " if memory_bytes else ""
    return (
        f"No worker that is alive takes {what}. The job waits until one is started: "
        f"{memory}secateur worker --queue {queue}"
    )
