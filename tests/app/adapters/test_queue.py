"""The queue on a real broker."""

import pytest
import redis

from app.adapters.queue import CeleryQueue, redis_url
from app.domain.errors import Unavailable
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


def test_messages_wait_in_their_queue(queue: CeleryQueue) -> None:
    assert (queue.depth("jobs"), queue.depth("quick")) == (0, 0)
    queue.wake("jobs")
    queue.wake("jobs")
    assert (queue.depth("jobs"), queue.depth("quick")) == (2, 0)


def test_an_absent_broker_is_unavailable() -> None:
    queue = CeleryQueue(f"redis://127.0.0.1:{free_port()}/0")
    try:
        for call in (
            queue.ping,
            lambda: queue.depth("jobs"),
            lambda: queue.wake("jobs"),
        ):
            with pytest.raises(Unavailable):
                call()
    finally:
        queue.close()


def test_a_queue_recovers_with_its_broker(queue: CeleryQueue, broker: "redis.Redis") -> None:
    queue.wake("jobs")
    broker.client_kill_filter(_type="normal", skipme=True)
    queue.wake("jobs")
    queue.ping()
    assert queue.depth("jobs") == 2
