"""Cursor pagination: newest first, stable while new items arrive."""

from typing import Generic, TypeVar

from app.domain.base import Record
from app.services.resources import DatasetResource, JobResource, ModelResource, UploadResource
from app.services.sweeps import SweepResource
from app.services.webhooks import DeliveryResource, WebhookResource

Item = TypeVar(
    "Item",
    ModelResource,
    DatasetResource,
    JobResource,
    SweepResource,
    UploadResource,
    WebhookResource,
    DeliveryResource,
)


class Page(Record, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None
    """Pass as `cursor` to get the next page; null on the last."""


def page(found: list[Item], limit: int) -> Page[Item]:
    """Cut a page out of `limit + 1` found items."""
    items = found[:limit]
    more = len(found) > limit
    return Page[Item](items=items, next_cursor=items[-1].id if more else None)
