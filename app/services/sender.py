"""Sends what the outbox holds: claimed under a lease, tried again for days, at least once.

Several may run: a claim is one conditional statement that counts the attempt, and a report names
the attempt that it is of. A sender that dies in between leaves a lease that runs out, and the
message goes out again under the same id.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import structlog
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from app.adapters import outbound
from app.adapters.database import Database, DeliveryRow, WebhookRow
from app.adapters.outbound import Policy
from app.domain.base import Record
from app.domain.people import Caller
from app.domain.webhook import PING, DeliveryStatus, SendAttempt, delay_seconds
from app.services import audit
from app.services.webhooks import policy_of
from app.settings import Settings

AT_ONCE = 32
"""Requests of one sender; each waits in a thread."""
AT_ONCE_PER_WEBHOOK = 4
AT_ONCE_PER_OWNER = 8
"""Over all senders, about: a slow receiver must leave room for the others."""
CANDIDATES = 1000
LEASE_MARGIN_SECONDS = 60.0
"""Beyond the time limit of a request: a name's resolution may exceed it, and so may a report."""
LOG_ENTRIES = 20
LOST = "The process that sent it ended before it could say what came of it."
DAY = 86_400.0
USER_AGENT = f"Secateur/{version('secateur')}"

log = structlog.get_logger(__name__)


class Message(Record):
    """A claimed delivery."""

    id: str
    attempt: int
    """The fencing token."""
    webhook: str
    owner: str
    event: str
    url: str
    body: str
    secrets: tuple[str, ...]


class Sender:
    """Sends due deliveries from threads of its own, each round as many as there is room for."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        post: Callable[[str, dict[str, str], bytes, Policy], SendAttempt] = outbound.post,
    ) -> None:
        self.database = database
        self.settings = settings
        self.policy = policy_of(settings)
        self._post = post
        self._busy: set[threading.Thread] = set()

    def round(self) -> int:
        """Begin to send what is due; returns how many were begun."""
        self._busy = {thread for thread in self._busy if thread.is_alive()}
        claimed = self._claim(AT_ONCE - len(self._busy))
        for message in claimed:
            # A daemon: an exit need not wait for a receiver, since the lease runs out.
            thread = threading.Thread(target=self._send, args=(message,), daemon=True)
            self._busy.add(thread)
            thread.start()
        return len(claimed)

    def wait(self, seconds: float) -> None:
        """Until what was begun has ended, or the time is over."""
        deadline = time.monotonic() + seconds
        for thread in self._busy:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def forget(self) -> None:
        """Delete deliveries older than the log is kept for."""
        kept = self.settings.webhook_log_days * DAY
        with self.database.write() as session:
            session.execute(delete(DeliveryRow).where(DeliveryRow.created_at < _now() - kept))

    # --- claim ---------------------------------------------------------------------------------
    def _claim(self, most: int) -> list[Message]:
        if most <= 0:
            return []
        # Looked at without the write lock first: mostly there is nothing to do.
        with self.database.read() as session:
            due = _chosen(_due(session), _in_flight(session), most)
        if not due:
            return []
        lease = self.policy.seconds + LEASE_MARGIN_SECONDS
        with self.database.write() as session:
            # In one order, so that no two senders wait for each other.
            claimed = [_claim_one(session, id_, lease) for id_ in sorted(due)]
        return [message for message in claimed if message is not None]

    # --- send ----------------------------------------------------------------------------------
    def _send(self, message: Message) -> None:
        try:
            made = self._post(message.url, signed(message), message.body.encode(), self.policy)
            self._settle(message, made)
        except Exception:
            # The lease runs out, and the delivery is due again.
            log.exception("delivery_not_settled", delivery=message.id)

    def _settle(self, message: Message, made: SendAttempt) -> None:
        with self.database.write() as session:
            # The webhook first, as when it is deleted with its deliveries.
            hook = session.get(WebhookRow, message.webhook, with_for_update=True)
            row = session.scalars(
                select(DeliveryRow)
                .where(DeliveryRow.id == message.id, DeliveryRow.attempts == message.attempt)
                .with_for_update()
            ).one_or_none()
            if hook is None or row is None:
                return  # Deleted, or somebody else's since the lease ran out.
            now = session.scalar(select(_now()))
            assert now is not None
            row.log = [*row.log, made.model_dump(mode="json")][-LOG_ENTRIES:]
            row.lease_expires_at = None
            _decide(row, made, now)
            self._judge(session, hook, message, made, now)
            state = row.state
        log.info(
            "delivery",
            delivery=message.id,
            webhook=message.webhook,
            attempt=message.attempt,
            status=made.response_status,
            error=made.error,
            state=str(state),
            seconds=made.seconds,
        )

    def _judge(
        self, session: Session, hook: WebhookRow, message: Message, made: SendAttempt, now: float
    ) -> None:
        """Disable a webhook that nothing arrives at. A ping's failure disables nothing."""
        if made.arrived:
            hook.failing_since = None
            return
        if message.event == PING or hook.url != message.url:
            return
        hook.failing_since = hook.failing_since or now
        failing_days = (now - hook.failing_since) / DAY
        if not hook.enabled:
            return
        if made.gone:
            reason = "The receiver answered 410 Gone, which asks for no more deliveries."
        elif failing_days >= self.settings.webhook_give_up_days:
            said = made.error or f"It answered {made.response_status}."
            reason = f"Nothing has arrived for {failing_days:.1f} days. The last attempt: {said}"
        else:
            return
        hook.enabled = False
        hook.disabled_reason = reason
        audit.record(session, Caller(owner=hook.owner), "webhook.disable", hook.id, reason=reason)
        log.warning("webhook_disabled", webhook=hook.id, owner=hook.owner, reason=reason)


def signed(message: Message, at: datetime | None = None) -> dict[str, str]:
    """The headers of a delivery. [Standard Webhooks, "Webhook headers"]

    The timestamp is the attempt's, so that receivers can refuse what somebody replays.
    """
    at = at or datetime.now(UTC)
    signatures = [Webhook(each).sign(message.id, at, message.body) for each in message.secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _now() -> Any:
    return func.clock()


def _is_due() -> Any:
    """A lease that ran out needs no look: the next attempt was set to its end."""
    return (DeliveryRow.state == DeliveryStatus.PENDING) & (DeliveryRow.next_at <= _now())


def _due(session: Session) -> list[tuple[str, str, str]]:
    """Id, webhook and owner of what is due, of each webhook the first few."""
    place = func.row_number().over(
        partition_by=DeliveryRow.webhook_id, order_by=(DeliveryRow.next_at, DeliveryRow.id)
    )
    waiting = (
        select(
            DeliveryRow.id,
            DeliveryRow.webhook_id,
            DeliveryRow.next_at,
            WebhookRow.owner,
            place.label("place"),
        )
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(_is_due(), or_(WebhookRow.enabled, DeliveryRow.event == PING))
        .subquery()
    )
    return list(
        session.execute(
            select(waiting.c.id, waiting.c.webhook_id, waiting.c.owner)
            .where(waiting.c.place <= AT_ONCE_PER_WEBHOOK)
            .order_by(waiting.c.next_at, waiting.c.id)
            .limit(CANDIDATES)
        )
    )


def _in_flight(session: Session) -> Counter[str]:
    """Requests going on, by webhook and by owner."""
    counts: Counter[str] = Counter()
    found = session.execute(
        select(DeliveryRow.webhook_id, WebhookRow.owner, func.count())
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.state == DeliveryStatus.PENDING, DeliveryRow.lease_expires_at > _now())
        .group_by(DeliveryRow.webhook_id, WebhookRow.owner)
    )
    for webhook, owner, number in found:
        counts[webhook] += number
        counts[f"owner {owner}"] += number
    return counts


def _chosen(due: Iterable[tuple[str, str, str]], in_flight: Counter[str], most: int) -> list[str]:
    """Ids of what is sent now: the longest due first, as far as there is room for each."""
    chosen: list[str] = []
    for id_, webhook, owner in due:
        if len(chosen) == most:
            break
        name = f"owner {owner}"
        if in_flight[webhook] < AT_ONCE_PER_WEBHOOK and in_flight[name] < AT_ONCE_PER_OWNER:
            in_flight[webhook] += 1
            in_flight[name] += 1
            chosen.append(id_)
    return chosen


def _claim_one(session: Session, id_: str, lease: float) -> Message | None:
    row = session.get(DeliveryRow, id_)
    lost = row is not None and row.lease_expires_at is not None
    result = session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.id == id_, _is_due())
        .values(
            attempts=DeliveryRow.attempts + 1,
            round_attempts=DeliveryRow.round_attempts + 1,
            next_at=_now() + lease,
            lease_expires_at=_now() + lease,
        )
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    if not result.rowcount:
        return None  # Another sender was faster, or it was deleted.
    assert row is not None
    session.refresh(row)
    now = session.scalar(select(_now()))
    assert now is not None
    if lost:
        gone = SendAttempt(at=now, seconds=0.0, error=LOST)
        row.log = [*row.log, gone.model_dump(mode="json")][-LOG_ENTRIES:]
    hook = session.get_one(WebhookRow, row.webhook_id)
    old = hook.old_secret if (hook.old_secret_until or 0.0) > now else None
    return Message(
        id=row.id,
        attempt=row.attempts,
        webhook=hook.id,
        owner=hook.owner,
        event=row.event,
        url=hook.url,
        body=row.body,
        secrets=(hook.secret, *((old,) if old else ())),
    )


def _decide(row: DeliveryRow, made: SendAttempt, now: float) -> None:
    """What comes after an attempt."""
    # A ping asks whether a receiver is there now.
    wait = (
        None
        if made.arrived or row.event == PING
        else delay_seconds(row.round_attempts, made.retry_after_seconds)
    )
    if wait is not None:
        row.next_at = now + wait
        return
    row.state = DeliveryStatus.DELIVERED if made.arrived else DeliveryStatus.FAILED
    row.next_at = None
    row.ended_at = now
