"""/v1/webhooks"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Header, Query, Response
from fastapi.responses import JSONResponse

from app.api.context import Ctx, Cursor, IdempotencyKey, Limit
from app.api.forms import DeliveryId, WebhookId, created
from app.api.paging import Page, page
from app.api.problems import responses
from app.domain.webhook import DeliveryStatus, Rotation, WebhookChange, WebhookSpec
from app.services.outbox import JobEnded, Message, Pinged, SweepEnded
from app.services.webhooks import DeliveryResource, WebhookResource, WebhookWithSecret

router = APIRouter(prefix="/v1", tags=["webhooks"], responses=responses(422, 503))

EXAMPLES: dict[str, Any] = {
    "ends of jobs": {
        "summary": "Jobs that have succeeded or failed",
        "value": {
            "url": "https://hooks.example/secateur",
            "events": ["job.succeeded", "job.failed"],
        },
    },
    "ends of sweeps": {
        "summary": "Sweeps of which no job goes on, prepared and not yet enabled",
        "value": {
            "url": "https://hooks.example/secateur?of=sweeps",
            "events": ["sweep.completed"],
            "enabled": False,
        },
    },
}
CHANGES: dict[str, Any] = {
    "enable": {"summary": "Send again", "value": {"enabled": True}},
    "events": {"summary": "Other events", "value": {"events": ["job.failed"]}},
}
ROTATIONS: dict[str, Any] = {
    "a day": {"summary": "Both secrets sign for a day", "value": {"grace_hours": 24}},
    "at once": {"summary": "The old secret is known to others", "value": {"grace_hours": 0}},
}

NO_CHANGE, A_DAY = WebhookChange(), Rotation()


@router.post(
    "/webhooks",
    status_code=201,
    summary="Create a webhook",
    responses=responses(409, 413),
)
def create_webhook(
    ctx: Ctx, spec: Annotated[WebhookSpec, Body(openapi_examples=EXAMPLES)], response: Response
) -> WebhookWithSecret:
    """Have the ends of your jobs and sweeps sent to a URL, signed as Standard Webhooks say.

    The answer has the `secret` that receivers verify signatures with; it is not shown again. See
    the section Webhooks below for what is sent.
    """
    made = ctx.webhooks.create(spec)
    response.headers["Location"] = f"/v1/webhooks/{made.id}"
    return made


@router.get("/webhooks", summary="List webhooks")
def list_webhooks(ctx: Ctx, limit: Limit = 50, cursor: Cursor = None) -> Page[WebhookResource]:
    """Newest first."""
    return page(ctx.webhooks.newest(limit + 1, cursor), limit)


@router.get("/webhooks/{webhook_id}", summary="Look at a webhook", responses=responses(404))
def get_webhook(ctx: Ctx, webhook_id: WebhookId) -> WebhookResource:
    """Where it sends what, and whether anything arrives; without its secret."""
    return ctx.webhooks.get(ctx.examples.ensure(webhook_id))


@router.patch("/webhooks/{webhook_id}", summary="Change a webhook", responses=responses(404, 413))
def change_webhook(
    ctx: Ctx,
    webhook_id: WebhookId,
    change: Annotated[WebhookChange, Body(openapi_examples=CHANGES)] = NO_CHANGE,
) -> WebhookResource:
    """Another URL, other events, on or off. What waits goes to the new URL, once it is enabled."""
    return ctx.webhooks.change(ctx.examples.ensure(webhook_id), change)


@router.delete(
    "/webhooks/{webhook_id}",
    status_code=204,
    summary="Delete a webhook",
    responses=responses(404, 409),
)
def delete_webhook(ctx: Ctx, webhook_id: WebhookId) -> Response:
    """The webhook and its deliveries, also those that wait."""
    ctx.webhooks.delete(ctx.examples.ensure(webhook_id))
    return Response(status_code=204)


@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Exchange the secret",
    responses=responses(404, 413),
)
def rotate_secret(
    ctx: Ctx,
    webhook_id: WebhookId,
    rotation: Annotated[Rotation, Body(openapi_examples=ROTATIONS)] = A_DAY,
) -> WebhookWithSecret:
    """A fresh secret, shown once. For `grace_hours` deliveries carry a signature of each."""
    return ctx.webhooks.rotate(ctx.examples.ensure(webhook_id), rotation)


@router.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    response_model=DeliveryResource,
    summary="Send a test message",
    responses=responses(404, 409, 413),
)
def ping_webhook(ctx: Ctx, webhook_id: WebhookId, key: IdempotencyKey = None) -> JSONResponse:
    """Sends `webhook.test`, once, whatever the webhook's events are and whether it is enabled or
    not. The delivery that is answered shows a moment later how it went.
    """
    return created(ctx.webhooks.test(ctx.examples.ensure(webhook_id), key))


@router.get(
    "/webhooks/{webhook_id}/deliveries", summary="List deliveries", responses=responses(404)
)
def list_deliveries(
    ctx: Ctx,
    webhook_id: WebhookId,
    status: Annotated[DeliveryStatus | None, Query(description="Only these.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeliveryResource]:
    """Newest first: what was sent, each attempt's status, time and answer, and when the next is."""
    webhook_id = ctx.examples.ensure(webhook_id)
    return page(ctx.webhooks.deliveries(webhook_id, limit + 1, cursor, status), limit)


@router.get(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}",
    summary="Look at a delivery",
    responses=responses(404),
)
def get_delivery(ctx: Ctx, webhook_id: WebhookId, delivery_id: DeliveryId) -> DeliveryResource:
    """What was sent, and what became of it."""
    hook, delivery = ctx.examples.ensure(webhook_id), ctx.examples.ensure(delivery_id)
    return ctx.webhooks.delivery(hook, delivery)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/retry",
    status_code=202,
    summary="Send a delivery again",
    responses=responses(404, 409, 413),
)
def retry_delivery(ctx: Ctx, webhook_id: WebhookId, delivery_id: DeliveryId) -> DeliveryResource:
    """At once, under the same `webhook-id`, also one that has arrived; and for three days again,
    should it fail.
    """
    hook, delivery = ctx.examples.ensure(webhook_id), ctx.examples.ensure(delivery_id)
    return ctx.webhooks.retry(hook, delivery)


# --- what receivers get --------------------------------------------------------------------------
MessageId = Annotated[
    str,
    Header(alias="webhook-id", description="The same with each attempt: take a message once."),
]
Timestamp = Annotated[
    int, Header(alias="webhook-timestamp", description="Of the attempt, in seconds since 1970.")
]
Signature = Annotated[
    str,
    Header(
        alias="webhook-signature",
        description="`v1,` and the base64 of the HMAC-SHA256 of `{id}.{timestamp}.{body}`; several "
        "are separated by spaces.",
    ),
]
ANSWERS: dict[int | str, dict[str, Any]] = {
    "2XX": {"description": "Taken."},
    "410": {"description": "Wants no more: the webhook is disabled."},
    "default": {"description": "Not taken: sent again, ten times within three days."},
}


def describe(app: FastAPI) -> None:
    """Add what is sent to the OpenAPI document."""

    def job(id_: MessageId, at: Timestamp, signed: Signature, body: Message[JobEnded]) -> None:
        """A job has ended."""

    def sweep(id_: MessageId, at: Timestamp, signed: Signature, body: Message[SweepEnded]) -> None:
        """No job of a sweep goes on any more."""

    def ping(id_: MessageId, at: Timestamp, signed: Signature, body: Message[Pinged]) -> None:
        """Somebody asked for a test message."""

    told: list[tuple[str, str, Any]] = [
        ("job.succeeded", "A job has succeeded", job),
        ("job.failed", "A job has failed", job),
        ("job.cancelled", "A job was cancelled", job),
        ("sweep.completed", "A sweep has ended", sweep),
        ("webhook.test", "A test message", ping),
    ]
    for name, summary, body in told:
        app.webhooks.post(
            name,
            summary=summary,
            tags=["webhooks"],
            status_code=204,
            responses=ANSWERS,
            operation_id=f"receive_{name.replace('.', '_')}",
        )(body)
