"""Webhooks: what their owners ask for, and when a delivery is tried again.

[Standard Webhooks, https://www.standardwebhooks.com]
"""

import base64
import random
import secrets
from enum import StrEnum
from typing import Literal

from pydantic import Field

from app.domain.base import Record, Strict, Text

EventName = Literal["job.succeeded", "job.failed", "job.cancelled", "sweep.completed"]
EVENTS: tuple[EventName, ...] = ("job.succeeded", "job.failed", "job.cancelled", "sweep.completed")
PING = "webhook.test"
"""Sent on request, to see whether a receiver is there; whatever the webhook's events are."""

MINUTE, HOUR = 60.0, 3600.0
DELAYS_SECONDS = (
    5.0,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
"""After the first attempt, the second, and so on: three days. [Standard Webhooks, "Deliverability
and reliability"]"""
MOST_ATTEMPTS = len(DELAYS_SECONDS) + 1
JITTER = 0.2
"""Share of a delay that chance adds, so that what failed together does not come back together."""
LONGEST_URL = 2000
SECRET_BYTES = 32


class DeliveryStatus(StrEnum):
    """A delivery waits for its next attempt, or has ended."""

    PENDING = "pending"
    DELIVERED = "delivered"
    """A receiver answered 2xx."""
    FAILED = "failed"
    """No attempt is left; `POST …/retry` begins anew."""


class WebhookSpec(Strict):
    """Where to send what."""

    url: Text = Field(min_length=1, max_length=LONGEST_URL)
    """https://…, with a name or an address that is public. Without user name and password."""
    events: tuple[EventName, ...] = Field(default=EVENTS, min_length=1, max_length=len(EVENTS))
    """What is told; everything, where it is left out."""
    enabled: bool = True
    """Whether anything is sent. Nothing is written down for a webhook that is not enabled."""


class WebhookChange(Strict):
    """What is to be different; the rest stays as it is."""

    url: Text | None = Field(default=None, min_length=1, max_length=LONGEST_URL)
    events: tuple[EventName, ...] | None = Field(default=None, min_length=1, max_length=len(EVENTS))
    enabled: bool | None = None
    """`true` also for one that was disabled because nothing arrived for days."""


class Rotation(Strict):
    """How to exchange a secret."""

    grace_hours: float = Field(default=24.0, ge=0, le=168)
    """How long deliveries are signed with the old secret as well."""


class SendAttempt(Record):
    """One request to a receiver."""

    at: float
    """Seconds since 1970."""
    response_status: int | None = None
    """HTTP status of the answer; None where there was none."""
    seconds: float
    """From the resolution of the name to the end of the answer."""
    answer: str = ""
    """How the answer begins."""
    error: str | None = None
    """Why there was no answer, in words."""
    retry_after_seconds: float | None = None
    """What the receiver asked for."""

    @property
    def arrived(self) -> bool:
        """Whether the receiver has taken it."""
        return self.response_status is not None and 200 <= self.response_status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver asks for no more. [Standard Webhooks: 410]"""
        return self.response_status == 410


def new_secret() -> str:
    """256 random bits, in the form that the libraries of Standard Webhooks read."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def delay_seconds(attempts: int, asked_for: float | None = None) -> float | None:
    """How long to wait after so many attempts; None when they were enough.

    Args:
        attempts: made so far, from 1.
        asked_for: the receiver's Retry-After; heeded up to the longest delay.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    planned = DELAYS_SECONDS[attempts - 1] * (1 + JITTER * random.random())  # noqa: S311
    return max(planned, min(asked_for or 0.0, DELAYS_SECONDS[-1]))
