"""owners and keys

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Json = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OWNED = ("models", "datasets", "sweeps", "jobs")


def upgrade() -> None:
    # Not in batch mode, which makes SQLite's tables anew. What is there belongs to the default
    # owner, as does all that is made while no key is asked for.
    for table in OWNED:
        op.add_column(
            table,
            sa.Column("owner", sa.String(length=32), nullable=False, server_default="default"),
        )
    for table in ("models", "datasets", "sweeps"):
        op.create_index(f"ix_{table}_owner_id", table, ["owner", "id"])
    op.create_index("ix_jobs_owner_kind_id", "jobs", ["owner", "kind", "id"])
    op.create_index("ix_jobs_owner_state", "jobs", ["owner", "state"])
    # An Idempotency-Key belongs to an owner, too.
    op.execute("UPDATE idempotency_keys SET scope = scope || '\\:default'")
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_api_keys_owner", "api_keys", ["owner"])
    op.create_table(
        "audit",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=16), nullable=True),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=48), nullable=False),
        sa.Column("data", Json, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("api_keys")
    op.execute(
        "DELETE FROM idempotency_keys WHERE scope NOT LIKE '%\\:default'"
    )
    op.execute("UPDATE idempotency_keys SET scope = replace(scope, '\\:default', '')")
    op.drop_index("ix_jobs_owner_state", "jobs")
    op.drop_index("ix_jobs_owner_kind_id", "jobs")
    for table in ("models", "datasets", "sweeps"):
        op.drop_index(f"ix_{table}_owner_id", table)
    for table in OWNED:
        op.drop_column(table, "owner")
