"""Alembic's entry: one transaction, one migrating process at a time."""

from alembic import context
from sqlalchemy import create_engine, text

from app.adapters.database.tables import Base

MIGRATION_LOCK = 7_300_421


def run() -> None:
    """Apply the migrations to the database named in the config."""
    url = context.config.attributes["url"]
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            # The mode is stored in the file and cannot change inside a transaction.
            connection.execute(text("PRAGMA journal_mode = WAL"))
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            else:
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
            context.run_migrations()
    engine.dispose()


run()
