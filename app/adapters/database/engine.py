"""Engine, sessions and migrations."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import Double

from app.adapters.database import counts
from app.domain.base import Record
from app.domain.errors import Unavailable
from app.observe.metrics import DATABASE_ERRORS, STATEMENTS, TRANSACTIONS, statement_kind

KEPT_CONNECTIONS = 10
"""Stay open while they are not used."""
MIGRATIONS = Path(__file__).parent / "migrations"


class clock(GenericFunction[float]):  # noqa: N801  (SQL functions are lower case)
    """Now, by the database's clock, as seconds since 1970: hosts' clocks may differ."""

    type = Double()
    inherit_cache = True
    name = "clock"


@compiles(clock, "sqlite")
def _sqlite_clock(element: Any, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


class Limits(Record):
    """What one process takes of a PostgreSQL, and how long it waits for it."""

    connections: int = 30
    wait_seconds: float = 10.0
    """For a connection, where all are in use."""
    statement_seconds: float = 30.0
    """Longest statement, with its wait for locks; 0 for any."""


class Database:
    """Opens sessions; one per use case, short, never across a wait."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self.url = url
        self.engine = _engine(url, limits or Limits())
        _measure(self.engine)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.in_process = self.engine.dialect.name == "sqlite"
        """Whether statements are answered by this process itself, without a wait for a network;
        reads do not wait for writes either (WAL)."""
        # To begin and to roll back are questions to a server too; SQLite's driver does neither.
        alone = {} if self.in_process else {"isolation_level": "AUTOCOMMIT"}
        self._looking = self.engine.execution_options(**alone)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state and writes nothing."""
        with self._guard("read"), self._sessions() as session:
            if self.in_process:
                session.execute(text("BEGIN"))
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For single statements, each of which sees a state of its own; it writes nothing.

        A session with its transaction costs more than many a statement.
        """
        with self._guard("read"), self._looking.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: commits at the end, rolls back on any error."""
        with self._guard("write"), self._sessions() as session, session.begin():
            if self.in_process:
                # Take the write lock at once: upgrading a read lock fails under contention.
                session.execute(text("BEGIN IMMEDIATE"))
            yield session
            # Last, whoever counted first: rows of counters are everybody's, and who holds one
            # must not wait for a job's row.
            counts.flush(session)

    @contextmanager
    def _guard(self, operation: str) -> Iterator[None]:
        try:
            with TRANSACTIONS.labels(operation).time():
                yield
        except PoolTimeout as error:
            raise Unavailable("All connections to the database are in use; try again.") from error
        except OperationalError as error:
            DATABASE_ERRORS.inc()
            raise Unavailable("The database does not answer; try again in a moment.") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                DATABASE_ERRORS.inc()
                raise Unavailable("The database connection was lost; try again.") from error
            raise

    def ping(self) -> None:
        """Raises `Unavailable` when the database does not answer."""
        with self.read() as session:
            session.execute(select(func.clock()))

    def close(self) -> None:
        """Give connections back."""
        self.engine.dispose()


SILENT_SECONDS = 15
"""A database, or a client of it, that does not answer for so long is gone: a cut cable says
nothing."""
CLIENT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": SILENT_SECONDS * 1000,
}
"""libpq's own words; what the URL says of them holds. Without them a request to a machine that
vanished waits for many minutes."""
SERVER_OPTIONS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{SILENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{SILENT_SECONDS}s",
    "lock_timeout": "20s",
}
"""PostgreSQL's, for each session: a client that vanished must not hold what others wait for."""


def _postgresql(url: str, limits: Limits) -> Engine:
    kept = min(limits.connections, KEPT_CONNECTIONS)
    said = make_url(url).query
    engine = create_engine(
        url,
        # A connection that a restart of the server has cut is noticed before it is used.
        pool_pre_ping=True,
        pool_size=kept,
        max_overflow=limits.connections - kept,
        pool_timeout=limits.wait_seconds,
        connect_args={k: v for k, v in CLIENT_OPTIONS.items() if k not in said},
    )
    session = SERVER_OPTIONS | {"statement_timeout": f"{round(limits.statement_seconds * 1000)}ms"}
    session = {k: v for k, v in session.items() if k not in str(said.get("options", ""))}

    # In a statement and not at the connection's start, where poolers refuse options.
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for name, value in session.items():
                cursor.execute(f"SET {name} = '{value}'")
        connection.commit()

    return engine


def _engine(url: str, limits: Limits) -> Engine:
    if not url.startswith("sqlite"):
        return _postgresql(url, limits)
    engine = create_engine(url, pool_size=20, max_overflow=40, connect_args={"timeout": 20})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: we say BEGIN IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA busy_timeout = 20000")
        cursor.close()

    return engine


def _measure(engine: Engine) -> None:
    """Time each statement."""

    @event.listens_for(engine, "before_cursor_execute")
    def _before(
        connection: Any, _cursor: Any, _sql: Any, _values: Any, context: Any, *_: Any
    ) -> None:
        context.began_at = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def _after(
        connection: Any, _cursor: Any, sql: Any, _values: Any, context: Any, *_: Any
    ) -> None:
        spent = time.perf_counter() - context.began_at
        STATEMENTS.labels(statement_kind(sql)).observe(spent)


def migrate(url: str) -> None:
    """Bring the schema up to date; safe to call from several processes at once."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, "head")
