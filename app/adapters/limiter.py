"""Requests per minute, counted in the broker, which all processes of the API share."""

import time

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.adapters.broker import BROKER_ERRORS, connect
from app.domain.base import Record

TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Allowance(Record):
    """Where a caller stands in the current minute."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    """Until the window has moved on."""


class Limiter:
    """A sliding window over the last minute: no burst of twice the limit where two windows meet."""

    def __init__(self, broker_url: str) -> None:
        self._redis = connect(broker_url, TIMEOUT_SECONDS)
        storage = RedisStorage(
            "redis://", connection_pool=self._redis.connection_pool, key_prefix="secateur:limits"
        )
        self._strategy = SlidingWindowCounterRateLimiter(storage)
        self._pause_until = 0.0

    def hit(self, who: str, per_minute: int) -> Allowance | None:
        """Count a request; None while the broker is away: nobody is refused because of that."""
        if time.monotonic() < self._pause_until:
            return None
        item = RateLimitItemPerMinute(per_minute)
        try:
            allowed = self._strategy.hit(item, who)
            window = self._strategy.get_window_stats(item, who)
        except BROKER_ERRORS as error:
            # Not every request is to wait for a broker that is away.
            self._pause_until = time.monotonic() + PAUSE_SECONDS
            log.warning("requests_not_counted", reason=type(error).__name__)
            return None
        return Allowance(
            allowed=allowed,
            limit=per_minute,
            remaining=max(window.remaining, 0),
            reset_seconds=max(window.reset_time - time.time(), 0.0),
        )

    def close(self) -> None:
        """Give connections back."""
        self._redis.close()
