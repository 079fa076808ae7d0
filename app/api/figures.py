"""Figures of all jobs, read off the database for each scrape, beside what the process counts.

Every API process answers with the same figures of jobs: dashboards take their `max`, never their
sum.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.adapters.database import CounterRow, Database, JobRow, WorkerRow
from app.domain.errors import Unavailable
from app.domain.job import Status
from app.domain.ports import Queue
from app.services.line import queue_state
from app.services.tallies import OTHER, TALLIES, Tally
from app.services.workers import FORGOTTEN_SECONDS

MOST_WORKERS = 200
"""Workers that are named; the others share a label."""
QUEUE_GAUGES = {
    "secateur_queue_waiting": ("Jobs that wait, by queue", "waiting"),
    "secateur_queue_waiting_seconds": ("How long the oldest waits, by queue", "oldest_seconds"),
    "secateur_queue_running": ("Jobs that run, by queue", "running"),
    "secateur_queue_workers": ("Living worker processes, by queue", "workers"),
}
"""Name → what it says, and the field of a queue's state."""
Counted = dict[tuple[str, ...], dict[str, float]]
"""Labels → bucket → number; a counter's only bucket, and a histogram's sum, is ''."""


def exposition(database: Database, queue: Queue) -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(database, queue))
    return generate_latest(REGISTRY) + generate_latest(registry)


class Figures(Collector):
    """What the database and the broker know."""

    def __init__(self, database: Database, queue: Queue) -> None:
        self.database = database
        self.queue = queue

    def collect(self) -> Iterator[Metric]:
        """Metric families; the database's are missing while it is away."""
        up = GaugeMetricFamily("secateur_up", "Whether a part answers", labels=["part"])
        up.add_metric(["broker"], float(self._broker_answers()))
        try:
            with self.database.read() as session:
                found = [*_gauges(session), *_tallies(session)]
            found += _queues(self.database)
        except Unavailable:
            found = []
        up.add_metric(["database"], float(bool(found)))
        yield up
        yield from found

    def _broker_answers(self) -> bool:
        try:
            self.queue.ping()
        except Unavailable:
            return False
        return True


def _gauges(session: Session) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("secateur_jobs", "Jobs in the database", labels=["status"])
    there = _by(session, JobRow.state)
    for status in Status:
        jobs.add_metric([str(status)], there.get(str(status), 0))
    yield jobs
    oldest = session.scalar(
        select(func.clock() - func.min(JobRow.created_at)).where(
            JobRow.kind == "prune", JobRow.state == Status.QUEUED
        )
    )
    yield GaugeMetricFamily(
        "secateur_queue_oldest_seconds", "Age of the oldest queued job", value=oldest or 0.0
    )
    running = GaugeMetricFamily(
        "secateur_running_jobs", "Jobs that a worker runs", labels=["worker"]
    )
    by_worker = _by(session, JobRow.worker, JobRow.state == Status.RUNNING)
    for name, number in _named(by_worker):
        running.add_metric([name], number)
    yield running
    yield GaugeMetricFamily(
        "secateur_workers",
        "Worker processes that have been heard of within a minute",
        value=session.scalar(
            select(func.count())
            .select_from(WorkerRow)
            .where(WorkerRow.seen_at > func.clock() - FORGOTTEN_SECONDS)
        )
        or 0,
    )


def _queues(database: Database) -> Iterator[Metric]:
    """What scaling by depth and age needs."""
    states = queue_state(database)
    for name, (help_, field) in QUEUE_GAUGES.items():
        family = GaugeMetricFamily(name, help_, labels=["queue"])
        for state in states:
            family.add_metric([state.queue], getattr(state, field))
        yield family


def _by(session: Session, column: Any, *where: Any) -> dict[str, int]:
    rows = session.execute(
        select(column, func.count()).where(JobRow.kind == "prune", *where).group_by(column)
    ).all()
    return {str(row[0]): row[1] for row in rows}


def _named(by_worker: dict[str, int]) -> Iterable[tuple[str, int]]:
    ordered = sorted(by_worker.items())
    yield from ordered[:MOST_WORKERS]
    if more := ordered[MOST_WORKERS:]:
        yield OTHER, sum(number for _, number in more)


def _tallies(session: Session) -> Iterator[Metric]:
    counted: dict[str, Counted] = defaultdict(lambda: defaultdict(dict))
    for row in session.scalars(select(CounterRow)):
        labels = json.loads(row.labels)
        bucket = labels.pop("le", "")
        counted[row.name][tuple(labels[name] for name in sorted(labels))][bucket] = row.value
    for tally in TALLIES:
        names = sorted(tally.labels)
        if tally.buckets:
            yield _histogram(tally, names, counted)
        else:
            family = CounterMetricFamily(tally.name, tally.help, labels=names)
            there = {_in_order(tally, values): {"": 0.0} for values in tally.known}
            for values, buckets in sorted((there | counted[tally.name]).items()):
                family.add_metric(values, buckets[""])
            yield family


def _in_order(tally: Tally, values: tuple[str, ...]) -> tuple[str, ...]:
    """Labels as the database keeps them: by name."""
    named = dict(zip(tally.labels, values, strict=True))
    return tuple(named[name] for name in sorted(named))


def _histogram(tally: Tally, names: list[str], counted: dict[str, Counted]) -> Metric:
    family = HistogramMetricFamily(tally.name, tally.help, labels=names)
    for values, buckets in sorted(counted[tally.name].items()):
        total = counted[f"{tally.name}_sum"][values].get("", 0.0)
        family.add_metric(values, list(_cumulative(tally, buckets)), total)
    return family


def _cumulative(tally: Tally, buckets: dict[str, float]) -> Iterator[tuple[str, float]]:
    below = 0.0
    for edge in (*tally.buckets, math.inf):
        name = "+Inf" if math.isinf(edge) else f"{edge:g}"
        below += buckets.get(name, 0.0)
        yield name, below
