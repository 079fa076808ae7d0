"""Uploads that are not taken, counted by the kind of problem."""

from fastapi import Request

from app.domain.errors import SecateurError
from app.observe.metrics import REFUSED

COLLECTIONS = {"/v1/models": "models", "/v1/datasets": "datasets", "/v1/uploads": "uploads"}
"""Routes that take uploads."""


def count_refusal(request: Request, error: SecateurError) -> None:
    """Count an error, where it answers an upload."""
    collection = COLLECTIONS.get(request.url.path.rstrip("/"))
    if request.method == "POST" and collection is not None:
        REFUSED.labels(collection, error.slug).inc()
