"""Connections to the broker, wherever its URL says it is."""

from typing import Any

import redis
from redis.sentinel import Sentinel

from app.domain.broker import read_broker_url

BROKER_ERRORS = (redis.RedisError, OSError)
"""What redis-py raises where the broker is away; Sentinel's are among them."""


def connect(broker_url: str, timeout_seconds: float) -> "redis.Redis":
    """A client, which connects when it is first used. Behind Sentinel: to whoever is master then.

    Raises `ValueError` where the URL cannot be read.
    """
    broker = read_broker_url(broker_url)
    timeouts: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    if not broker.sentinels:
        return redis.Redis.from_url(broker.redis, **timeouts)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        list(broker.sentinels),
        # Not again and again: it is asked anew at the next use.
        sentinel_kwargs=timeouts | {"retry": None} | broker.sentinel_login,
        **timeouts,
    )
    client: redis.Redis = sentinels.master_for(
        broker.master_name,
        username=broker.username,
        password=broker.password,
        db=broker.db,
        retry=None,
    )
    return client


def transport_options(broker_url: str) -> dict[str, Any]:
    """What Celery must be told beside the URL."""
    broker = read_broker_url(broker_url)
    if not broker.sentinels:
        return {}
    quick = {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": None}
    return {"master_name": broker.master_name, "sentinel_kwargs": quick | broker.sentinel_login}
