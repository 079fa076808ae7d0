"""The queue as Celery over Redis' protocol. Messages carry a queue's name and nothing else."""

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from app.adapters.broker import BROKER_ERRORS, connect, transport_options
from app.domain.broker import read_broker_url
from app.domain.errors import Unavailable
from app.domain.queues import QueueName

TASK_NAME = "secateur.run_job"


def celery_app(broker_url: str, name: str = "secateur") -> Celery:
    """The Celery application that both sides use; tasks are sent by name."""
    app = Celery(name, broker=read_broker_url(broker_url).celery, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        # The task is acknowledged before it runs: with Redis, late acknowledgement delivers a
        # long job again after the visibility timeout. The lease in the row brings lost jobs back.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        task_publish_retry=False,
        broker_transport_options={
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "health_check_interval": 5,
            "retry_on_timeout": True,
            **transport_options(broker_url),
        },
        task_default_queue="jobs",
    )
    return app


class CeleryQueue:
    """`app.domain.ports.Queue` over Celery."""

    def __init__(self, broker_url: str) -> None:
        self._celery = celery_app(broker_url)
        self._redis: Any = connect(broker_url, timeout_seconds=2)

    def wake(self, queue: QueueName) -> None:
        """Tell one worker of a queue that there is work."""
        try:
            self._celery.send_task(TASK_NAME, args=[queue], queue=queue, ignore_result=True)
        except (OperationalError, *BROKER_ERRORS) as error:
            raise Unavailable("The broker does not answer; the job will start later.") from error

    def depth(self, queue: QueueName) -> int:
        """Messages waiting in the broker."""
        try:
            return int(self._redis.llen(queue))
        except BROKER_ERRORS as error:
            raise Unavailable("The broker does not answer.") from error

    def ping(self) -> None:
        """One round trip."""
        try:
            self._redis.ping()
        except BROKER_ERRORS as error:
            raise Unavailable(f"The broker does not answer: {error}.") from error

    def close(self) -> None:
        """Give connections back."""
        self._celery.close()
        self._redis.close()
