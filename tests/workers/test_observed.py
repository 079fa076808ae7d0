"""One job, followed through the log and the trace, from its claim to its end."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import func, update

from app.adapters.database import JobRow
from app.domain.spec import PruningSpec
from app.logs import configure
from app.observe import traces
from app.services.dispatch import Reaper
from app.settings import Settings
from tests.workers.test_supervise import SilentQueue, World
from workers.confinement import Limits
from workers.parent import Child
from workers.tasks import Doorway

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROGRAM = """
import json, sys, time
def tell(**message): print(json.dumps(message), flush=True)
active = {"active": True, "detail": "said so"}
tell(type="ready", confinement=dict.fromkeys(["user", "landlock", "seccomp"], active))
order = json.loads(sys.stdin.readline())
for name in ("loading", "pruning"):
    began = time.time()
    tell(type="told", kind="phase", data={"phase": name})
    time.sleep(0.05)
    tell(type="spent", phase=name, began=began, ended=time.time())
tell(type="told", kind="phase", data={"phase": "fine-tuning"})
time.sleep(0.05)
sys.exit(7)
"""


class SmallNursery:
    """Of children that are programs of a few lines."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def prepare(self) -> None:
        pass

    def take(self) -> Child:
        return Child(Limits.of(self.settings), (sys.executable, "-c", PROGRAM))

    def close(self) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What is logged while it is asked for, as a function."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    configure(Settings(), "worker")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use("test", SimpleSpanProcessor(exporter))
    yield exporter
    traces.end()


def submitted(world: World) -> str:
    spec = {"model": "mdl_example", "prune": {"target": {"kind": "fraction", "remove": 0.5}}}
    with (
        structlog.contextvars.bound_contextvars(request="req_1", owner="default", part="api"),
        traces.span("POST /v1/jobs", "server", PARENT),
    ):
        answer = world.jobs.submit(PruningSpec.model_validate(spec))
    return str(answer.body["id"])


def carried_out(world: World, job: str) -> Doorway:
    doorway = Doorway(world.settings, lambda: False)
    doorway.nursery = SmallNursery(world.settings)  # type: ignore[assignment]
    try:
        doorway.enter(job)
    finally:
        doorway.database.close()
    return doorway


def test_a_job_is_followed_by_its_id_through_all_logs(world: World, lines: Any) -> None:
    job = submitted(world)
    doorway = carried_out(world, job)
    ours = [line for line in lines() if line.get("job") == job]
    assert [line["event"] for line in ours] == [
        *("job_submitted", "claimed", "phase", "phase", "phase", "ended")
    ]
    sent, *worked = ours
    assert (sent["part"], sent["request"], sent["owner"]) == ("api", "req_1", "default")
    for line in worked:
        assert line["part"] == "worker", line
        assert line["worker"] == doorway.name, line
        assert line["attempt"] == 1, line
        assert line["owner"] == "default", line
    assert [line["phase"] for line in worked if line["event"] == "phase"] == [
        *("loading", "pruning", "fine-tuning")
    ]
    assert worked[-1]["status"] == "failed"
    assert "job" not in structlog.contextvars.get_contextvars()


def test_the_reaper_names_the_job_and_itself(world: World, lines: Any) -> None:
    attempt = world.claim()
    with world.database.write() as session:
        session.execute(
            update(JobRow)
            .where(JobRow.id == attempt.job)
            .values(lease_expires_at=func.clock() - 1, attempt_started_at=func.clock() - 9)
        )
    reaper = Reaper(world.database, world.store, SilentQueue(), world.settings)
    with structlog.contextvars.bound_contextvars(part="reaper"):
        reaper.round()
    (lost,) = [line for line in lines() if line["event"] == "lease_lost"]
    assert (lost["job"], lost["part"]) == (attempt.job, "reaper")
    assert (lost["attempt"], lost["worker"], lost["owner"]) == (1, "test", "default")


def test_phases_of_the_process_are_spans_below_the_request(
    world: World, spans: InMemorySpanExporter
) -> None:
    job = submitted(world)
    carried_out(world, job)
    found = {span.name: span for span in spans.get_finished_spans()}
    request, attempt = found["POST /v1/jobs"], found["attempt"]
    assert f"{attempt.context.trace_id:032x}" == PARENT.split("-")[1]
    assert attempt.parent.span_id == request.context.span_id
    assert attempt.attributes["secateur.job"] == job
    assert attempt.attributes["secateur.outcome"] == "failed"
    assert not attempt.status.is_ok
    below = [span for span in found.values() if span.parent.span_id == attempt.context.span_id]
    assert {span.name for span in below} == {
        *("starting", "fetching", "loading", "pruning", "fine-tuning", "publishing")
    }
    for span in below:
        assert attempt.start_time - 1e6 <= span.start_time <= span.end_time <= attempt.end_time
    assert found["loading"].attributes["secateur.finished"] is True
    assert found["fine-tuning"].attributes["secateur.finished"] is False
