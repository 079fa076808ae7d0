"""The queue on a real broker."""

import pytest
import redis

from app.adapters.queue import CeleryQueue
from app.domain.errors import Unavailable
from tests.servers import free_port


def test_messages_wait_in_their_queue(queue: CeleryQueue) -> None:
    assert (queue.depth("jobs"), queue.depth("quick")) == (0, 0)
    queue.wake("jobs")
    queue.wake("jobs")
    assert (queue.depth("jobs"), queue.depth("quick")) == (2, 0)
    queue.wake("gpu")
    assert (queue.depth("jobs"), queue.depth("gpu"), queue.depth("large")) == (2, 1, 0)


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
