"""What a process counts for itself: each API process exports its own.

Figures of jobs come from the database instead (`app.api.figures`): whoever ends a job counts it in
the same transaction, workers and reapers need no port, and a restart forgets nothing. Labels are
templates, classes and operations, never ids or what users send: their number is bounded.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from platform import python_version

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# They double the series, and only OpenMetrics knows them.
disable_created_metrics()  # type: ignore[no-untyped-call]
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
SLOW = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)

TRANSACTIONS = Histogram(
    "secateur_database_transaction_seconds",
    "Time of a whole transaction, with the wait for the write lock",
    ["operation"],
    buckets=FAST,
)
STATEMENTS = Histogram(
    "secateur_database_statement_seconds",
    "Time of one SQL statement",
    ["operation"],
    buckets=FAST,
)
DATABASE_ERRORS = Counter(
    "secateur_database_unavailable_total", "Transactions that the database did not answer"
)
STORE = Histogram(
    "secateur_store_seconds", "Time of an operation of the store", ["operation"], buckets=FAST
)
STORE_ERRORS = Counter(
    "secateur_store_errors_total", "Operations of the store that failed", ["operation"]
)
INTAKE = Histogram(
    "secateur_intake_seconds",
    "Time to read an upload in a process of its own, with the wait for one",
    ["kind", "outcome"],
    buckets=SLOW,
)
REFUSED = Counter(
    "secateur_uploads_refused_total",
    "Uploads that were not taken, by the kind of problem",
    ["collection", "problem"],
)
BUILD = Gauge("secateur_build_info", "What runs; always 1", ["version", "python"])
BUILD.labels(version("secateur"), python_version()).set(1)

STATEMENT_KINDS = frozenset({"select", "insert", "update", "delete", "begin", "pragma", "with"})


def statement_kind(sql: str) -> str:
    """The first word of a statement, as far as it is one of a few."""
    word = sql.lstrip()[:8].partition(" ")[0].lower()
    return word if word in STATEMENT_KINDS else "other"


@contextmanager
def store_operation(name: str) -> Iterator[None]:
    """Time one operation of the store, and count it where it fails."""
    began = time.perf_counter()
    try:
        yield
    except Exception:
        STORE_ERRORS.labels(name).inc()
        raise
    finally:
        STORE.labels(name).observe(time.perf_counter() - began)
