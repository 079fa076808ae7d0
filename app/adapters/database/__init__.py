"""The database: SQLite in WAL mode by default, PostgreSQL for many machines."""

from app.adapters.database.engine import Database, migrate
from app.adapters.database.tables import (
    ArtifactRow,
    DatasetRow,
    EventRow,
    JobRow,
    ModelRow,
    SweepRow,
    WorkerRow,
)

__all__ = [
    "ArtifactRow",
    "Database",
    "DatasetRow",
    "EventRow",
    "JobRow",
    "ModelRow",
    "SweepRow",
    "WorkerRow",
    "migrate",
]
