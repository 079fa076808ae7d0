"""report.html: one file, no scripts, nothing from elsewhere."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.domain.job import Order
from app.domain.metrics import Metrics

# Names in the report come from the uploader's file: everything is escaped.
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(metrics: Metrics, order: Order) -> str:
    """The report of a succeeded job."""
    widest = max((layer.parameters_before for layer in metrics.per_layer), default=1) or 1
    return _ENVIRONMENT.get_template("report.html.jinja").render(
        m=metrics,
        job=order.job,
        attempt=order.attempt,
        model=order.model,
        widest=widest,
        latency=list(zip(metrics.before.latency, metrics.after.latency, strict=True)),
        spec=json.dumps(order.spec.model_dump(mode="json", exclude_defaults=True), indent=2),
    )
