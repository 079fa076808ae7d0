"""Webhooks: made, changed, tried, looked into, deleted. What they are told is `outbox`'s to say."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.adapters.database import Database, DeliveryRow, WebhookRow
from app.adapters.outbound import Policy, check_url
from app.domain.addresses import networks
from app.domain.base import Record
from app.domain.errors import Conflict, NotFound, TooManyWebhooks
from app.domain.ids import new_id
from app.domain.people import ANYBODY, Caller
from app.domain.webhook import (
    PING,
    DeliveryStatus,
    EventName,
    Rotation,
    SendAttempt,
    WebhookChange,
    WebhookSpec,
    new_secret,
)
from app.services import audit, outbox, quotas
from app.services.idempotency import Answer, fingerprint, once
from app.services.resources import moment
from app.settings import Settings

HOUR = 3600.0


class WebhookResource(Record):
    """A webhook, without its secret."""

    id: str = Field(examples=["whk_example"])
    created_at: datetime
    url: str
    events: tuple[EventName, ...]
    enabled: bool
    disabled_reason: str | None
    """Why the service disabled it; null where its owner did."""
    failing_since: datetime | None
    """Of the first failed attempt after which nothing has arrived; null while all is well."""
    old_secret_until: datetime | None
    """Until then deliveries are signed with the secret before the last rotation as well."""
    links: dict[str, str]


class WebhookWithSecret(WebhookResource):
    """A webhook as it is shown once, with the secret that its deliveries are signed with."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class AttemptResource(Record):
    """One request to a receiver, and its answer."""

    at: datetime
    response_status: int | None
    """HTTP status of the answer; null where there was none."""
    seconds: float
    """From the resolution of the name to the end of the answer."""
    answer: str
    """How the answer begins."""
    error: str | None
    """Why there was no answer."""


class DeliveryResource(Record):
    """A message to a webhook, and what became of it."""

    id: str = Field(examples=["whd_example"])
    """What receivers get as `webhook-id`, the same with each attempt."""
    webhook: str
    event: str
    subject: str | None
    """Id of the job or sweep that it tells of."""
    created_at: datetime
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    """When it is sent again; null once it has ended, and while the webhook is disabled."""
    ended_at: datetime | None
    log: tuple[AttemptResource, ...]
    """The latest attempts, oldest first."""
    body: str
    """What is sent, to the letter."""


def policy_of(settings: Settings) -> Policy:
    """Where webhooks may point to."""
    return Policy(
        allow_http=settings.webhook_allow_http,
        allowed=networks(settings.webhook_allow_networks),
        seconds=settings.webhook_timeout_seconds,
    )


class Webhooks:
    """Use cases around webhooks, on behalf of a caller: others' webhooks do not exist for them."""

    def __init__(self, database: Database, settings: Settings, caller: Caller = ANYBODY) -> None:
        self.database = database
        self.settings = settings
        self.caller = caller
        self.policy = policy_of(settings)

    def of(self, caller: Caller) -> "Webhooks":
        """The same on another's behalf."""
        return Webhooks(self.database, self.settings, caller)

    # --- make and change -----------------------------------------------------------------------
    def create(self, spec: WebhookSpec) -> WebhookWithSecret:
        """A new webhook, and its secret. Raises `InvalidWebhook`, `TooManyWebhooks`."""
        check_url(spec.url, self.policy)
        with self.database.write() as session:
            self._check_number(session)
            row = self.insert(session, spec)
            audit.record(session, self.caller, "webhook.create", row.id, events=row.events)
            return _with_secret(row)

    def insert(self, session: Session, spec: WebhookSpec, id_: str = "") -> WebhookRow:
        """Add a row to the caller's transaction."""
        row = WebhookRow(
            id=id_ or new_id("whk"),
            owner=self.caller.owner,
            created_at=_now(session),
            url=spec.url,
            events=_joined(spec.events),
            enabled=spec.enabled,
            secret=new_secret(),
        )
        session.add(row)
        session.flush()
        return row

    def _check_number(self, session: Session) -> None:
        quotas.lock(session, self.caller.owner)
        mine = select(func.count()).where(WebhookRow.owner == self.caller.owner)
        there, limit = session.scalar(mine) or 0, self.settings.quota_webhooks
        if there >= limit:
            raise TooManyWebhooks(
                f"You have {there} webhooks, and one owner may have {limit}. Delete one; or let "
                "one receiver take several events (setting SECATEUR_QUOTA_WEBHOOKS)."
            )

    def change(self, id_: str, change: WebhookChange) -> WebhookResource:
        """Another URL, other events, on or off. Raises `NotFound`, `InvalidWebhook`."""
        if change.url is not None:
            check_url(change.url, self.policy)
        with self.database.write() as session:
            row = self._found(session, id_, lock=True)
            if change.url is not None:
                row.url = change.url
                row.failing_since = None
            if change.events is not None:
                row.events = _joined(change.events)
            if change.enabled is not None:
                row.enabled = change.enabled
                row.disabled_reason = row.failing_since = None
            changed = " ".join(change.model_dump(exclude_none=True))
            audit.record(session, self.caller, "webhook.change", id_, changed=changed)
            return _resource(row)

    def rotate(self, id_: str, rotation: Rotation) -> WebhookWithSecret:
        """A fresh secret; the old one signs along for a while. Raises `NotFound`."""
        with self.database.write() as session:
            row = self._found(session, id_, lock=True)
            row.old_secret, row.secret = row.secret, new_secret()
            row.old_secret_until = _now(session) + rotation.grace_hours * HOUR
            audit.record(session, self.caller, "webhook.rotate", id_)
            return _with_secret(row)

    def delete(self, id_: str) -> None:
        """Forget a webhook and its deliveries. Raises `NotFound`."""
        with self.database.write() as session:
            session.delete(self._found(session, id_, lock=True))
            audit.record(session, self.caller, "webhook.delete", id_)

    # --- look ----------------------------------------------------------------------------------
    def get(self, id_: str) -> WebhookResource:
        """One webhook. Raises `NotFound`."""
        with self.database.read() as session:
            return _resource(self._found(session, id_))

    def newest(self, limit: int, cursor: str | None) -> list[WebhookResource]:
        """Newest first, from below the cursor."""
        query = (
            select(WebhookRow)
            .where(WebhookRow.owner == self.caller.owner)
            .order_by(WebhookRow.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(WebhookRow.id < cursor)
        with self.database.read() as session:
            return [_resource(row) for row in session.scalars(query)]

    def deliveries(
        self, id_: str, limit: int, cursor: str | None, status: DeliveryStatus | None = None
    ) -> list[DeliveryResource]:
        """Newest first, from below the cursor. Raises `NotFound`."""
        query = (
            select(DeliveryRow)
            .where(DeliveryRow.webhook_id == id_)
            .order_by(DeliveryRow.id.desc())
            .limit(limit)
        )
        if cursor is not None:
            query = query.where(DeliveryRow.id < cursor)
        if status is not None:
            query = query.where(DeliveryRow.state == status)
        with self.database.read() as session:
            hook = self._found(session, id_)
            return [_delivery(row, hook) for row in session.scalars(query)]

    def delivery(self, id_: str, delivery: str) -> DeliveryResource:
        """One delivery. Raises `NotFound`."""
        with self.database.read() as session:
            hook = self._found(session, id_)
            return _delivery(_found_delivery(session, id_, delivery), hook)

    # --- send ----------------------------------------------------------------------------------
    def test(self, id_: str, key: str | None = None) -> Answer:
        """Send a message that tells of nothing, also to a webhook that is not enabled.

        Raises `NotFound`, `IdempotencyConflict`.
        """

        def create(session: Session) -> Answer:
            hook = self._found(session, id_, lock=True)
            row = outbox.ping(session, hook)
            body = _delivery(row, hook).model_dump(mode="json")
            location = f"/v1/webhooks/{id_}/deliveries/{row.id}"
            return Answer(status=202, location=location, body=body)

        scope = f"webhooks:{self.caller.owner}"
        return once(self.database, scope, key, fingerprint("ping", id_), create)

    def retry(self, id_: str, delivery: str) -> DeliveryResource:
        """Send a delivery at once, under the same `webhook-id`, and begin with its delays anew.

        Harmless while it is being sent. Raises `NotFound`, `Conflict`.
        """
        with self.database.write() as session:
            hook = self._found(session, id_)
            row = _found_delivery(session, id_, delivery)
            if not hook.enabled and row.event != PING:
                raise Conflict(
                    f"Webhook {id_} is not enabled, so nothing is sent. Enable it first: PATCH "
                    f'/v1/webhooks/{id_} with {{"enabled": true}}.'
                )
            session.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.id == delivery,
                    func.coalesce(DeliveryRow.lease_expires_at, 0.0) < func.clock(),
                )
                .values(
                    state=DeliveryStatus.PENDING,
                    round_attempts=0,
                    next_at=func.clock(),
                    lease_expires_at=None,
                    ended_at=None,
                )
                .execution_options(synchronize_session=False)
            )
            audit.record(session, self.caller, "webhook.retry", delivery)
            session.refresh(row)
            return _delivery(row, hook)

    def _found(self, session: Session, id_: str, lock: bool = False) -> WebhookRow:
        query = select(WebhookRow).where(
            WebhookRow.id == id_, WebhookRow.owner == self.caller.owner
        )
        row = session.scalars(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise NotFound(
                f"There is no webhook {id_!r}. It may have been deleted, or the id is mistyped."
            )
        return row


def _found_delivery(session: Session, hook: str, id_: str) -> DeliveryRow:
    row = session.get(DeliveryRow, id_)
    if row is None or row.webhook_id != hook:
        raise NotFound(
            f"Webhook {hook} has no delivery {id_!r}. Deliveries are forgotten after a while "
            "(setting SECATEUR_WEBHOOK_LOG_DAYS)."
        )
    return row


def _joined(events: Sequence[str]) -> str:
    return " ".join(dict.fromkeys(events))


def _shown(row: WebhookRow) -> dict[str, Any]:
    base = f"/v1/webhooks/{row.id}"
    return {
        "id": row.id,
        "created_at": moment(row.created_at),
        "url": row.url,
        "events": row.events.split(),
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "failing_since": moment(row.failing_since),
        "old_secret_until": moment(row.old_secret_until),
        "links": {"self": base, "deliveries": f"{base}/deliveries"},
    }


def _resource(row: WebhookRow) -> WebhookResource:
    return WebhookResource.model_validate(_shown(row))


def _with_secret(row: WebhookRow) -> WebhookWithSecret:
    return WebhookWithSecret.model_validate(_shown(row) | {"secret": row.secret})


def _delivery(row: DeliveryRow, hook: WebhookRow) -> DeliveryResource:
    waits = row.state == DeliveryStatus.PENDING and (hook.enabled or row.event == PING)
    return DeliveryResource.model_validate(
        {
            "id": row.id,
            "webhook": row.webhook_id,
            "event": row.event,
            "subject": row.subject,
            "created_at": moment(row.created_at),
            "status": row.state,
            "attempts": row.attempts,
            "next_attempt_at": moment(row.next_at) if waits else None,
            "ended_at": moment(row.ended_at),
            "log": tuple(_attempt(SendAttempt.model_validate(entry)) for entry in row.log),
            "body": row.body,
        }
    )


def _attempt(made: SendAttempt) -> dict[str, Any]:
    shown = made.model_dump(exclude={"retry_after_seconds"})
    return shown | {"at": moment(made.at)}


def _now(session: Session) -> float:
    now = session.scalar(select(func.clock()))
    assert now is not None
    return float(now)
