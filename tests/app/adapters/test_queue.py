"""The queue on a real broker."""

from typing import get_args

import pytest
import redis

from app.adapters.queue import QUEUES, TASK_NAMES, CeleryQueue, redis_url
from app.domain.errors import Unavailable
from app.domain.job import JobKind
from tests.servers import free_port


@pytest.mark.parametrize(
    ("celery", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://u:p@h:1/2?ssl_cert_reqs=required", "rediss://u:p@h:1/2?ssl_cert_reqs=required"),
        ("redis+socket:///run/v.sock", "unix:///run/v.sock"),
        ("redis+socket:///run/v.sock?virtual_host=3", "unix:///run/v.sock?db=3"),
        (
            "redis+socket:///run/v.sock?socket_timeout=1&virtual_host=3",
            "unix:///run/v.sock?socket_timeout=1&db=3",
        ),
    ],
)
def test_the_url_is_spelled_as_redis_py_does(celery: str, expected: str) -> None:
    assert redis_url(celery) == expected
    redis.Redis.from_url(redis_url(celery)).close()


def test_every_kind_of_job_has_a_queue_and_a_task() -> None:
    assert set(QUEUES) == set(TASK_NAMES) == set(get_args(JobKind))


def test_quick_questions_do_not_wait_behind_jobs() -> None:
    assert {QUEUES[kind] for kind in QUEUES if kind != "prune"} == {"quick"}
    assert QUEUES["prune"] != "quick"


def test_messages_wait_in_their_queue(queue: CeleryQueue) -> None:
    assert (queue.depth("prune"), queue.depth("plan")) == (0, 0)
    queue.wake("prune", "job_1")
    queue.wake("prune", "job_1")
    assert (queue.depth("prune"), queue.depth("plan")) == (2, 0)


def test_an_absent_broker_is_unavailable() -> None:
    queue = CeleryQueue(f"redis://127.0.0.1:{free_port()}/0")
    try:
        for call in (
            queue.ping,
            lambda: queue.depth("prune"),
            lambda: queue.wake("prune", "job_1"),
        ):
            with pytest.raises(Unavailable):
                call()
    finally:
        queue.close()


def test_a_queue_recovers_with_its_broker(queue: CeleryQueue, broker: "redis.Redis") -> None:
    queue.wake("prune", "job_1")
    broker.client_kill_filter(_type="normal", skipme=True)
    queue.wake("prune", "job_2")
    queue.ping()
    assert queue.depth("prune") == 2
