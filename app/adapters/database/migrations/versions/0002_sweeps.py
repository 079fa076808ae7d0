"""sweeps

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Json = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    # Not in batch mode: it makes SQLite's table anew, and dropping the old one would take all
    # events and artifacts along.
    op.add_column("jobs", sa.Column("sweep_id", sa.String(length=48), nullable=True))
    op.add_column("jobs", sa.Column("sweep_index", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("varied", Json, nullable=True))
    op.create_index("ix_jobs_sweep_id", "jobs", ["sweep_id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_sweep_id", "jobs")
    op.drop_column("jobs", "varied")
    op.drop_column("jobs", "sweep_index")
    op.drop_column("jobs", "sweep_id")
    op.drop_table("sweeps")
