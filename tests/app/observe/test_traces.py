"""Traces: from a request into a job's row, to a collector over HTTP, and none without the extra."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.observe import traces
from app.services import lifecycle
from tests.app.api.conftest import SPEC, Api, _plain_logs, api  # noqa: F401
from tests.app.services.conftest import World, world  # noqa: F401

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use("test", SimpleSpanProcessor(exporter))
    yield exporter
    traces.end()


def by_name(exporter: InMemorySpanExporter, *awaited: str) -> dict[str, Any]:
    """Finished spans; a request's ends a moment after its answer."""
    deadline = time.monotonic() + 5
    while True:
        found = {span.name: span for span in exporter.get_finished_spans()}
        if found.keys() >= set(awaited) or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_without_a_collector_nothing_is_traced() -> None:
    assert not traces.wanted({})
    with traces.span("request") as span:
        span.tell(a=1)
        span.failed("it did")
        assert traces.here() is None
    assert traces.ids() == {}


def test_a_request_and_its_job_share_the_clients_trace(
    api: Api,  # noqa: F811
    spans: InMemorySpanExporter,
) -> None:
    answer = api.post("/v1/jobs", json=SPEC, headers={"traceparent": PARENT})
    attempt = lifecycle.claim(api.context.database, answer.json()["id"], "worker", 60)
    assert attempt is not None
    found = by_name(spans, "POST /v1/jobs")
    request, sent = found["POST /v1/jobs"], found["dispatch"]
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert sent.parent.span_id == request.context.span_id
    trace, span = f"{request.context.trace_id:032x}", f"{request.context.span_id:016x}"
    assert trace == PARENT.split("-")[1]
    assert attempt.traceparent == f"00-{trace}-{span}-01"
    assert request.attributes["http.response.status_code"] == 202
    assert request.attributes["secateur.request"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("sent", ["nonsense", "00-0-0-01", "é", "00-" + "0" * 32 + "-1-01"])
def test_a_traceparent_that_is_none_begins_a_trace(
    api: Api,  # noqa: F811
    spans: InMemorySpanExporter,
    sent: str,
) -> None:
    answer = api.get("/v1/jobs", headers={b"traceparent": sent.encode("latin-1")})
    assert answer.status_code == 200
    assert by_name(spans, "GET /v1/jobs")["GET /v1/jobs"].parent is None


def test_health_and_ids_stay_out_of_traces(
    api: Api,  # noqa: F811
    spans: InMemorySpanExporter,
) -> None:
    api.get("/healthz")
    api.get("/metrics")
    api.get("/v1/jobs/job_1")
    assert set(by_name(spans, "GET /v1/jobs/{job_id}")) == {"GET /v1/jobs/{job_id}"}


def test_a_retried_job_goes_on_in_the_retrys_trace(
    world: World,  # noqa: F811
    spans: InMemorySpanExporter,
) -> None:
    job = world.job()
    assert world.row(job).traceparent is None
    world.jobs.cancel(job)
    with traces.span("retry", parent=PARENT):
        world.jobs.retry(job)
    assert (world.row(job).traceparent or "").split("-")[1] == PARENT.split("-")[1]


# --- over HTTP ---------------------------------------------------------------------------------
@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """What an OTLP collector hears over HTTP."""
    heard: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, heard):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        traces.begin("worker")
        try:
            now = time.time()
            with traces.span("attempt", "consumer", PARENT, {"secateur.job": "job_1"}):
                traces.past("loading", now - 2, now - 1)
        finally:
            traces.end()
    (resource,) = [resource for request in heard for resource in request.resource_spans]
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "secateur-worker"
    loading, attempt = resource.scope_spans[0].spans
    assert (loading.name, attempt.name) == ("loading", "attempt")
    assert attempt.trace_id.hex() == PARENT.split("-")[1]
    assert attempt.parent_span_id.hex() == PARENT.split("-")[2]
    assert loading.parent_span_id == attempt.span_id
    assert loading.end_time_unix_nano - loading.start_time_unix_nano == pytest.approx(1e9, rel=1e-3)


def test_a_collector_that_is_away_stops_nothing() -> None:
    sent: list[SpanExportResult] = []

    class Exporter(OTLPSpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            sent.append(super().export(spans))
            return sent[-1]

    exporter = Exporter(endpoint="http://127.0.0.1:9/v1/traces", timeout=0.1)
    traces.use("test", SimpleSpanProcessor(exporter))
    try:
        with traces.span("request"):
            assert traces.here() is not None
        assert sent == [SpanExportResult.FAILURE]
    finally:
        traces.end()


_WITHOUT = """
import sys
sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
from app.main import create_app
from app.observe import traces
assert traces.wanted() and not traces.available()
create_app()
traces.begin("api")
with traces.span("request"):
    assert traces.here() is None
"""


def test_the_api_starts_without_the_extra_and_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        capture_output=True,
        text=True,
        check=False,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    )
    assert done.returncode == 0, done.stderr
    assert "secateur[otel]" in done.stdout + done.stderr
