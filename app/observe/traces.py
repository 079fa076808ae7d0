"""OpenTelemetry traces, from a request to the phases of a job's process.

Optional twice: nothing is traced unless the standard OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_…)
names a collector, and then the packages of `secateur[otel]` are needed. Without them the service
runs as it does without an endpoint, and says so once. The rest of Secateur calls these functions
either way, and imports nothing of OpenTelemetry.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import structlog

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, and the packages that traces need are not installed: "
    "pip install 'secateur[otel]'. Nothing is traced."
)
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

_tracer: Any = None
_provider: Any = None

log = structlog.get_logger(__name__)


def wanted(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names a collector."""
    given = os.environ if environment is None else environment
    return any(given.get(name) for name in ENDPOINTS)


def available() -> bool:
    """Whether OpenTelemetry's packages are installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def begin(part: str) -> None:
    """Start to trace this process, where that is wanted and possible.

    After a fork, not before it: the exporter has a thread of its own.

    Args:
        part: `api`, `worker` or `reaper`; OTEL_SERVICE_NAME goes before it.
    """
    if _provider is not None or not wanted():
        return
    if not available():
        log.warning("traces_unavailable", reason=MISSING)
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    use(part, BatchSpanProcessor(OTLPSpanExporter()))


def use(part: str, processor: Any) -> None:
    """Trace this process, and hand its spans to an OpenTelemetry span processor."""
    global _provider, _tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = {"service.version": version("secateur")}
    if "OTEL_SERVICE_NAME" not in os.environ:
        named["service.name"] = f"secateur-{part}"
    # Not OpenTelemetry's global provider: other libraries in the process are not ours to trace.
    _provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("secateur", version("secateur"))


def end() -> None:
    """Send what is left, and stop."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


def here() -> str | None:
    """The current span as a `traceparent` [W3C Trace Context, section 3.2]; None without one."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    flags = int(context.trace_flags)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def ids() -> dict[str, str]:
    """Trace and span for a line of the log; empty without any."""
    parent = here()
    if parent is None:
        return {}
    _, trace_id, span_id, _ = parent.split("-")
    return {"trace": trace_id, "span": span_id}


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    parent: str | None = None,
    attributes: Attributes | None = None,
) -> Iterator["Open"]:
    """A span around what happens within; current meanwhile.

    Args:
        name: of a few, without ids.
        kind: OpenTelemetry's.
        parent: a `traceparent`; the current span by default. What cannot be read is none.
        attributes: what is known from the start.
    """
    if _tracer is None:
        yield Open(None)
        return
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name,
        context=_context(parent),
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
    ) as made:
        yield Open(made)


def past(name: str, began: float, ended: float, attributes: Attributes | None = None) -> None:
    """A span of something that is over, below the current one; seconds since 1970."""
    if _tracer is None:
        return
    made = _tracer.start_span(name, start_time=int(began * 1e9), attributes=dict(attributes or {}))
    made.end(end_time=int(ended * 1e9))


def _context(parent: str | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


class Open:
    """A span that is not over; says nothing where nothing is traced."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def tell(self, **attributes: str | int | float | bool) -> None:
        """Add attributes; `__` in a name stands for a dot."""
        if self._made is not None:
            for name, value in attributes.items():
                self._made.set_attribute(name.replace("__", "."), value)

    def rename(self, name: str) -> None:
        """Say better what it is, once that is known."""
        if self._made is not None:
            self._made.update_name(name)

    def failed(self, reason: str) -> None:
        """Mark it as an error."""
        if self._made is not None:
            from opentelemetry.trace import Status, StatusCode

            self._made.set_status(Status(StatusCode.ERROR, reason[:500]))
