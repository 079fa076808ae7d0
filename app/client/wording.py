"""An event as a line of a log."""

from datetime import datetime
from typing import Any

from app.domain.job import Event


def line(event: Event) -> str:
    """`09:14:03 epoch: epoch 3, loss 0.21`, in local time."""
    at = datetime.fromtimestamp(event.at).strftime("%H:%M:%S")
    said = ", ".join(_said(name, value) for name, value in event.data.items() if value is not None)
    return f"{at} {event.kind}" + (f": {said}" if said else "")


def _said(name: str, value: Any) -> str:
    if name in ("text", "phase", "detail"):
        return str(value)
    if isinstance(value, float):
        return f"{name} {value:.4g}"
    if isinstance(value, dict):
        return ", ".join(_said(inner, each) for inner, each in value.items() if each is not None)
    if isinstance(value, list):
        return f"{name} " + (" ".join(map(str, value)) if len(value) <= 8 else f"({len(value)})")
    return f"{name} {value}"
