"""The checker: reads the database, the store and the clients' history, and finds what must not be.

It trusts none of the service's own code but the tables: a law is checked on rows and files.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.adapters.database import ArtifactRow, Database, DatasetRow, EventRow, JobRow, ModelRow
from benchmarks.chaos.history import Call, History

ENDED = ("succeeded", "failed", "cancelled")
OUTAGES = ("database",)
"""Faults that let no worker renew its lease."""
ROBBED_ANYWAY = ("kill", "pause")
"""Faults that cost the worker whose process they hit its lease; a drain is none of them."""
SLACK_SECONDS = 1.0


@dataclass(frozen=True)
class Violation:
    """A law that was broken."""

    law: str
    job: str
    words: str

    def __str__(self) -> str:
        return f"{self.law}: {self.job or 'the service'}: {self.words}"


@dataclass
class Facts:
    """All there is to look at."""

    jobs: dict[str, dict[str, Any]]
    events: dict[str, list[dict[str, Any]]]
    artifacts: dict[str, list[dict[str, Any]]]
    uploads: set[str]
    store: Path
    history: History
    lease_seconds: float


def read(database: Database, store: Path, history: History, lease_seconds: float) -> Facts:
    """Everything, at rest: call it when nothing runs any more."""
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    artifacts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with database.read() as session:
        jobs = {row.id: _columns(row) for row in session.scalars(select(JobRow))}
        for event in session.scalars(select(EventRow).order_by(EventRow.job_id, EventRow.id)):
            events[event.job_id].append(_columns(event))
        for artifact in session.scalars(select(ArtifactRow)):
            artifacts[artifact.job_id].append(_columns(artifact))
        uploads = set(session.scalars(select(ModelRow.key))) | set(
            session.scalars(select(DatasetRow.key))
        )
    return Facts(jobs, events, artifacts, uploads, store, history, lease_seconds)


def check(facts: Facts) -> list[Violation]:
    """All violations of all laws."""
    return [violation for law in LAWS for violation in law(facts)]


def _columns(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}


def _calls(facts: Facts, what: str, status: int) -> Iterator[Call]:
    return (call for call in facts.history.calls if (call.what, call.status) == (what, status))


def _may_be_deleted(facts: Facts) -> set[str]:
    """Jobs whose deletion was asked for, answered or not."""
    return {call.job for call in facts.history.calls if call.what == "delete"}


# --- what was accepted -------------------------------------------------------------------------
def accepted_jobs_end(facts: Facts) -> Iterator[Violation]:
    deleted = _may_be_deleted(facts)
    for job in {call.job for call in _calls(facts, "submit", 202)}:
        row = facts.jobs.get(job)
        if row is None and job not in deleted:
            yield Violation("accepted jobs end", job, "was accepted, and is not there")
    for job in {call.job for call in _calls(facts, "delete", 204)} & facts.jobs.keys():
        yield Violation("accepted jobs end", job, "was deleted, and is still there")
    for job, row in facts.jobs.items():
        if row["state"] not in ENDED:
            yield Violation("accepted jobs end", job, f"is {row['state']} at the end")
        elif row["state"] == "failed" and not (row["error"] or {}).get("detail"):
            yield Violation("accepted jobs end", job, "has failed without an error")
        elif row["state"] == "succeeded" and not row["result"]:
            yield Violation("accepted jobs end", job, "has succeeded without a result")


def one_key_one_job(facts: Facts) -> Iterator[Violation]:
    jobs: dict[str, set[str]] = defaultdict(set)
    for call in _calls(facts, "submit", 202):
        jobs[call.key].add(call.job)
    for key, made in jobs.items():
        if key and len(made) > 1:
            yield Violation("one key, one job", min(made), f"{key} made {sorted(made)}")
    known = {job for made in jobs.values() for job in made}
    for job in facts.jobs.keys() - known:
        yield Violation("one key, one job", job, "is a job that no client was told of")


def answers_are_no_defects(facts: Facts) -> Iterator[Violation]:
    for call in facts.history.calls:
        if call.status == 500:
            yield Violation("no answer is a defect", call.job, f"{call.what}: 500 {call.data}")


# --- how it went -------------------------------------------------------------------------------
def events_have_no_gaps(facts: Facts) -> Iterator[Violation]:
    for job, row in facts.jobs.items():
        numbers = [event["id"] for event in facts.events.get(job, [])]
        if numbers != list(range(1, row["last_event"] + 1)):
            yield Violation("events have no gaps", job, f"{numbers} of {row['last_event']}")


def success_is_committed_once(facts: Facts) -> Iterator[Violation]:
    for job, row in facts.jobs.items():
        count = sum(event["kind"] == "succeeded" for event in facts.events.get(job, []))
        if count != (row["state"] == "succeeded"):
            yield Violation(
                "success is committed once", job, f"{count} times, and it is {row['state']}"
            )


def ended_jobs_stay_ended(facts: Facts) -> Iterator[Violation]:
    """After an end nothing comes but a retry; after a success, or a cancel, no success."""
    for job, events in facts.events.items():
        ended = cancelled = ""
        for event in events:
            kind, data = event["kind"], event["data"]
            retried = kind == "queued" and data.get("reason") == "retry"
            if ended and not (retried and ended != "succeeded"):
                yield Violation("ended jobs stay ended", job, f"{kind} after {ended}")
            if cancelled and kind == "succeeded":
                yield Violation("cancelled jobs do not succeed", job, f"{kind} after {cancelled}")
            if retried:
                ended = cancelled = ""
            if kind in ("cancel_requested", "cancelled"):
                cancelled = kind
            ended = kind if kind in ENDED else ended


def cancelled_jobs_do_not_succeed(facts: Facts) -> Iterator[Violation]:
    """By what clients were told: an accepted cancel, no accepted or unknown retry since."""
    for cancel in _calls(facts, "cancel", 202):
        row = facts.jobs.get(cancel.job)
        retried = any(
            call.what == "retry" and call.job == cancel.job and call.ended > cancel.began
            for call in facts.history.calls
        )
        if row and row["state"] == "succeeded" and not retried:
            yield Violation("cancelled jobs do not succeed", cancel.job, "a cancel was accepted")


def attempts_follow_each_other(facts: Facts) -> Iterator[Violation]:
    """No write of a stale fence: attempts rise by one, and only a running one writes."""
    for job, events in facts.events.items():
        fence, running = 0, False
        for event in events:
            kind = event["kind"]
            if kind == "running":
                if event["data"].get("attempt") != fence + 1:
                    yield Violation(
                        "attempts follow each other", job, f"{event['data']} after {fence}"
                    )
                fence, running = event["data"].get("attempt", fence + 1), True
            elif kind == "queued" or kind in ENDED:
                if kind == "succeeded" and not running:
                    yield Violation("attempts follow each other", job, "success while not running")
                running = False
            elif not running and kind != "cancel_requested":
                yield Violation("attempts follow each other", job, f"{kind} while not running")
        if fence != facts.jobs[job]["fence"]:
            yield Violation("attempts follow each other", job, f"{fence} attempts were told of")


def files_are_of_the_last_attempt(facts: Facts) -> Iterator[Violation]:
    for job, files in facts.artifacts.items():
        row = facts.jobs[job]
        for file in files:
            if not file["key"].startswith(f"jobs/{job}/a{row['fence']}/"):
                yield Violation("no stale write is visible", job, f"{file['key']}, {row['fence']}")


def live_workers_keep_their_jobs(facts: Facts) -> Iterator[Violation]:
    """Whose lease ran out was killed, or paused, or the database was away."""
    for job, events in facts.events.items():
        began = 0.0
        for before, event in zip([None, *events], events, strict=False):
            if event["kind"] == "running":
                taken = before is not None and before["kind"] not in ("queued",)
                if taken and not _excused(facts, None, began, event["at"]):
                    yield Violation("live workers keep their jobs", job, f"taken at {event['at']}")
                began = event["at"]
            reason = event["data"].get("reason", "")
            lost = re.fullmatch(r"Worker (\S+) was lost\.", reason)
            if lost and not _excused(facts, _pid(lost[1]), began, event["at"]):
                yield Violation("live workers keep their jobs", job, reason)


def _pid(worker: str) -> int:
    """Of a worker called `host:pid`."""
    pid = worker.rpartition(":")[2]
    return int(pid) if pid.isdigit() else 0


def _excused(facts: Facts, pid: int | None, since: float, until: float) -> bool:
    for fault in facts.history.faults:
        if fault.ended < since - SLACK_SECONDS or fault.began > until + SLACK_SECONDS:
            continue
        name = fault.what.split()[0]
        if name in OUTAGES or (name in ROBBED_ANYWAY and (pid is None or pid in fault.pids)):
            return True
    return False


# --- what is left ------------------------------------------------------------------------------
def downloads_match(facts: Facts) -> Iterator[Violation]:
    for call in _calls(facts, "download", 200):
        if call.data["expected"] != call.data["sha256"]:
            yield Violation("downloads match", call.job, str(call.data))


def stored_files_match(facts: Facts) -> Iterator[Violation]:
    for job, files in facts.artifacts.items():
        for file in files:
            path = facts.store / file["key"]
            if not path.is_file():
                yield Violation("stored files match", job, f"{file['key']} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                yield Violation("stored files match", job, f"{file['key']} has other content")
    for job, row in facts.jobs.items():
        if row["checkpoint"] and not (facts.store / row["checkpoint"]["key"]).is_file():
            yield Violation("stored files match", job, "its checkpoint is missing")


def no_orphans(facts: Facts) -> Iterator[Violation]:
    """After garbage collection, each file belongs to a row."""
    known = set(facts.uploads)
    known |= {file["key"] for files in facts.artifacts.values() for file in files}
    known |= {row["checkpoint"]["key"] for row in facts.jobs.values() if row["checkpoint"]}
    for path in facts.store.rglob("*"):
        key = path.relative_to(facts.store).as_posix()
        if path.is_file() and key not in known and not key.startswith("lost+found"):
            yield Violation("no orphan files", key.split("/")[1] if "/" in key else "", key)


LAWS: tuple[Callable[[Facts], Iterator[Violation]], ...] = (
    accepted_jobs_end,
    one_key_one_job,
    answers_are_no_defects,
    events_have_no_gaps,
    success_is_committed_once,
    ended_jobs_stay_ended,
    cancelled_jobs_do_not_succeed,
    attempts_follow_each_other,
    files_are_of_the_last_attempt,
    live_workers_keep_their_jobs,
    downloads_match,
    stored_files_match,
    no_orphans,
)
