"""The database: SQLite in WAL mode by default, PostgreSQL for many machines."""

from app.adapters.database.engine import Database, migrate
from app.adapters.database.tables import (
    ArtifactRow,
    AuditRow,
    DatasetRow,
    DeliveryRow,
    EventRow,
    JobRow,
    KeyRow,
    ModelRow,
    SweepRow,
    WebhookRow,
    WorkerRow,
)

__all__ = [
    "ArtifactRow",
    "AuditRow",
    "Database",
    "DatasetRow",
    "DeliveryRow",
    "EventRow",
    "JobRow",
    "KeyRow",
    "ModelRow",
    "SweepRow",
    "WebhookRow",
    "WorkerRow",
    "migrate",
]
