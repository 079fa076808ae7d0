"""The database: SQLite in WAL mode by default, PostgreSQL for many machines."""

from app.adapters.database.engine import Database, Limits, migrate
from app.adapters.database.tables import (
    ArtifactRow,
    AuditRow,
    CounterRow,
    DatasetRow,
    DeliveryRow,
    EventRow,
    JobRow,
    KeyRow,
    ModelRow,
    SweepRow,
    UploadRow,
    WebhookRow,
    WorkerRow,
)

__all__ = [
    "ArtifactRow",
    "AuditRow",
    "CounterRow",
    "Database",
    "DatasetRow",
    "DeliveryRow",
    "EventRow",
    "JobRow",
    "KeyRow",
    "Limits",
    "ModelRow",
    "SweepRow",
    "UploadRow",
    "WebhookRow",
    "WorkerRow",
    "migrate",
]
