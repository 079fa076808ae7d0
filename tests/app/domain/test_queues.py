"""Which queue a job waits in, and whose turn it is."""

import pytest

from app.domain.queues import Head, Resources, queue_of, rank

GIB = 1024**3
NOW = 1_000_000.0
STEP = 60.0


@pytest.mark.parametrize(
    ("needs", "queue"),
    [
        ({}, "jobs"),
        ({"memory_bytes": 8 * GIB}, "jobs"),
        ({"memory_bytes": 8 * GIB + 1}, "large"),
        ({"accelerator": "gpu"}, "gpu"),
        ({"accelerator": "gpu", "memory_bytes": 64 * GIB}, "gpu"),
    ],
)
def test_the_queue_is_told_by_the_needs(needs: dict[str, object], queue: str) -> None:
    assert queue_of(Resources.model_validate(needs), 8 * GIB) == queue


def head(
    job: str, priority: int = 0, waited: float = 0.0, running: int = 0, owner: str = "a"
) -> Head:
    return Head(
        job=job, owner=owner, priority=priority, waiting_since=NOW - waited, running=running
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (head("b", priority=1, running=9), head("a", waited=59)),
        (head("b", waited=60), head("a", waited=59)),
        (head("b", priority=0, waited=600), head("a", priority=9)),
        (head("b", priority=10), head("a", priority=0, waited=599)),
        (head("b", running=1), head("a", running=2, waited=59)),
        (head("b", waited=2), head("a", waited=1)),
        (head("a"), head("b")),
    ],
    ids=[
        "priority",
        "waiting counts as priority",
        "the lowest one day goes first",
        "not before its day",
        "fewest running",
        "longest unserved",
        "id",
    ],
)
def test_the_order_of_heads(first: Head, second: Head) -> None:
    assert first.turn(NOW, STEP) < second.turn(NOW, STEP)


def test_a_step_of_priority_is_worth_its_seconds() -> None:
    assert rank(100.0, 1, STEP) == rank(40.0, 0, STEP)
    assert rank(100.0, 1, STEP) < rank(41.0, 0, STEP)
