"""What is counted of jobs, in the transaction that makes it so: exactly once, whoever did it.

A worker that ends a job, a reaper that gives it up and an API that cancels it all count here, so
that figures are those of the whole service, survive every restart, and need no port on a worker.
Histograms are counters too, one a bucket. `app.api.figures` exports them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

from sqlalchemy.orm import Session

from app.adapters.database import JobRow, counts
from app.domain.errors import JobError, error_classes
from app.domain.job import ENDED as ENDED_STATES
from app.domain.job import JobKind, Status

OTHER = "other"
KINDS: tuple[str, ...] = get_args(JobKind)
PHASES = (
    *("starting", "fetching"),
    *("loading", "calibrating", "search", "pruning", "fine-tuning", "shrinking"),
    *("evaluating", "exporting", "measuring"),
    "publishing",
)
"""Of the worker: `starting`, `fetching`, `publishing`. The others are the job's process' words."""
TIMES = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600)
"""Seconds; jobs take from one to some hours."""
SLUGS = frozenset(cls.slug for cls in error_classes())


@dataclass(frozen=True)
class Tally:
    """A counter, or a histogram where it has buckets."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()
    """Labels that are there from the start, as 0: Prometheus sees no increase in a series' first
    value."""


def _by_kind(name: str, help_: str) -> Tally:
    return Tally(name, help_, ("kind",), known=tuple((kind,) for kind in KINDS))


ENDED = Tally(
    "secateur_jobs_ended",
    "Jobs that have ended",
    ("kind", "outcome"),
    known=tuple(product(KINDS, sorted(ENDED_STATES))),
)
FAILURES = Tally(
    "secateur_job_failures",
    "Jobs that failed, by problem",
    ("kind", "problem"),
    known=tuple(("prune", cls.slug) for cls in error_classes(JobError)),
)
ATTEMPTS = _by_kind("secateur_attempts_started", "Attempts that workers have begun")
LOST = _by_kind("secateur_attempts_lost", "Attempts whose worker did not report for a lease")
HANDED_BACK = _by_kind(
    "secateur_attempts_handed_back",
    "Attempts that went back into the queue as their worker shut down, or by an operator",
)
WAITS = Tally("secateur_job_wait_seconds", "From submission to the first attempt", ("kind",), TIMES)
RUNS = Tally(
    "secateur_job_run_seconds", "Run of a job over all its attempts", ("kind", "outcome"), TIMES
)
PHASE_SECONDS = Tally(
    "secateur_job_phase_seconds", "Time in each phase of an attempt", ("phase",), TIMES
)
ROUNDS = Tally(
    "secateur_reaper_rounds",
    "Looks of reapers for lost jobs",
    ("outcome",),
    known=(("ok",), ("failed",)),
)
TALLIES = (*(ENDED, FAILURES, ATTEMPTS, LOST, HANDED_BACK, WAITS, RUNS, PHASE_SECONDS, ROUNDS),)


def count(session: Session, tally: Tally, *labels: str, by: float = 1.0) -> None:
    """Raise a counter."""
    counts.add(session, tally.name, dict(zip(tally.labels, labels, strict=True)), by)


def observe(session: Session, tally: Tally, seconds: float, *labels: str) -> None:
    """Put a time into its bucket."""
    named = dict(zip(tally.labels, labels, strict=True))
    bucket = next((f"{edge:g}" for edge in tally.buckets if seconds <= edge), "+Inf")
    counts.add(session, tally.name, named | {"le": bucket})
    counts.add(session, f"{tally.name}_sum", named, max(seconds, 0.0))


def ended(
    session: Session,
    kind: str,
    status: str,
    error: Mapping[str, Any] | None = None,
    run_seconds: float | None = None,
) -> None:
    """A job has ended; `run_seconds` where it ever ran."""
    count(session, ENDED, kind, status)
    if status == Status.FAILED:
        slug = str((error or {}).get("type", "")).removeprefix("/problems/")
        # A job's process may name any problem; labels are those that we know.
        count(session, FAILURES, kind, slug if slug in SLUGS else OTHER)
    if run_seconds is not None:
        observe(session, RUNS, run_seconds, kind, status)


def began(session: Session, row: JobRow, *, lost_one: bool) -> None:
    """A worker has claimed a job, perhaps from one that was lost."""
    count(session, ATTEMPTS, row.kind)
    if lost_one:
        count(session, LOST, row.kind)
    if row.fence == 1 and row.started_at is not None:
        observe(session, WAITS, row.started_at - row.created_at, row.kind)


def phases(session: Session, seconds: Mapping[str, float]) -> None:
    """Times of one attempt's phases; names are the caller's to bound."""
    for name, spent in seconds.items():
        observe(session, PHASE_SECONDS, spent, name if name in PHASES else OTHER)
