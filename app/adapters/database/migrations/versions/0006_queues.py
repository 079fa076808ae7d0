"""queues by need, priorities and fairness

Revision ID: 0006
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LINE = (
    "state",
    "queue",
    "owner",
    "rank",
    "id",
    "priority",
    "queued_at",
    "dispatched_at",
    "memory_bytes",
)


def upgrade() -> None:
    # Not in batch mode, which makes SQLite's tables anew.
    for column in (
        sa.Column("queue", sa.String(length=16), nullable=False, server_default="jobs"),
        sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("queued_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("rank", sa.Double(), nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)
    # Jobs that wait during the upgrade keep their order.
    op.execute("UPDATE jobs SET queued_at = created_at, rank = created_at")
    op.execute("UPDATE jobs SET queue = 'quick' WHERE kind <> 'prune'")
    op.create_index("ix_jobs_line", "jobs", list(LINE))
    op.create_index("ix_jobs_served", "jobs", ["queue", "owner", "attempt_started_at"])
    op.add_column(
        "workers",
        sa.Column("queues", sa.String(length=64), nullable=False, server_default="jobs quick"),
    )
    op.add_column(
        "workers",
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False, server_default="0"),
    )


def downgrade() -> None:
    op.drop_column("workers", "memory_bytes")
    op.drop_column("workers", "queues")
    op.drop_index("ix_jobs_served", "jobs")
    op.drop_index("ix_jobs_line", "jobs")
    for name in ("rank", "queued_at", "memory_bytes", "priority", "queue"):
        op.drop_column("jobs", name)
