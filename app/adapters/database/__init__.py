"""The database: SQLite in WAL mode by default, PostgreSQL for many machines."""

from app.adapters.database.engine import Database, Limits, migrate
from app.adapters.database.tables import (
    ArtifactRow,
    AuditRow,
    CounterRow,
    DatasetRow,
    EventRow,
    JobRow,
    KeyRow,
    ModelRow,
    SweepRow,
    UploadRow,
    WorkerRow,
)

__all__ = [
    "ArtifactRow",
    "AuditRow",
    "CounterRow",
    "Database",
    "DatasetRow",
    "EventRow",
    "JobRow",
    "KeyRow",
    "Limits",
    "ModelRow",
    "SweepRow",
    "UploadRow",
    "WorkerRow",
    "migrate",
]
