"""report.html: one file, no scripts, nothing from elsewhere."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.domain.analysis import ModelAnalysis
from app.domain.job import Order
from app.domain.metrics import Metrics
from app.plots.job import pictures
from workers.report.graph import Changes, draw

# Names in the report come from the uploader's file: everything is escaped.
ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(metrics: Metrics, order: Order, analysis: ModelAnalysis) -> str:
    """The report of a succeeded job; `analysis` is the original model's."""
    widest = max((layer.parameters_before for layer in metrics.per_layer), default=1) or 1
    return ENVIRONMENT.get_template("report.html.jinja").render(
        m=metrics,
        job=order.job,
        attempt=order.attempt,
        model=order.model,
        widest=widest,
        plots={name: Markup(svg) for name, svg in pictures(metrics).items()},  # noqa: S704
        why=_why(metrics, analysis, order.spec.prune.structured),
        graph=Markup(draw(analysis.layers, analysis.edges, _changes(metrics))),  # noqa: S704
        latency=list(zip(metrics.before.latency, metrics.after.latency, strict=True)),
        spec=json.dumps(order.spec.model_dump(mode="json", exclude_defaults=True), indent=2),
    )


def _changes(metrics: Metrics) -> Changes:
    return {one.name: (one.units_before, one.units_after) for one in metrics.per_layer}


def _why(metrics: Metrics, analysis: ModelAnalysis, structured: bool) -> dict[str, str]:
    """By layer: the cut's note, and what holds its units where units were to go."""
    frozen = {one.name: one.frozen for one in analysis.layers if structured}
    found = {}
    for layer in metrics.per_layer:
        note, reason = layer.note or "", frozen.get(layer.name) or ""
        found[layer.name] = note if reason in note else f"{note}; {reason}" if note else reason
    return found
