"""Engine, sessions and migrations."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import Double

from app.domain.base import Record
from app.domain.errors import Unavailable

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
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one consistent state and writes nothing."""
        with self._guard(), self._sessions() as session:
            if self.engine.dialect.name == "sqlite":
                session.execute(text("BEGIN"))
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: commits at the end, rolls back on any error."""
        with self._guard(), self._sessions() as session, session.begin():
            if self.engine.dialect.name == "sqlite":
                # Take the write lock at once: upgrading a read lock fails under contention.
                session.execute(text("BEGIN IMMEDIATE"))
            yield session

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable("All connections to the database are in use; try again.") from error
        except OperationalError as error:
            raise Unavailable("The database does not answer; try again in a moment.") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise Unavailable("The database connection was lost; try again.") from error
            raise

    def ping(self) -> None:
        """Raises `Unavailable` when the database does not answer."""
        with self.read() as session:
            session.execute(select(func.clock()))

    def close(self) -> None:
        """Give connections back."""
        self.engine.dispose()


def _engine(url: str, limits: Limits) -> Engine:
    if not url.startswith("sqlite"):
        kept = min(limits.connections, KEPT_CONNECTIONS)
        return create_engine(
            url,
            # A connection that a restart of the server has cut is noticed before it is used.
            pool_pre_ping=True,
            pool_size=kept,
            max_overflow=limits.connections - kept,
            pool_timeout=limits.wait_seconds,
            connect_args=_connect_arguments(url, limits),
        )
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


def _connect_arguments(url: str, limits: Limits) -> dict[str, Any]:
    """libpq's own words; what the URL says of them holds."""
    milliseconds = round(limits.statement_seconds * 1000)
    told: dict[str, Any] = {
        "connect_timeout": 5,
        # A server that has vanished without a word is given up, and not waited for.
        "keepalives_idle": 30,
        "tcp_user_timeout": 15_000,
        "options": f"-c statement_timeout={milliseconds}",
    }
    return {name: value for name, value in told.items() if name not in make_url(url).query}


def migrate(url: str) -> None:
    """Bring the schema up to date; safe to call from several processes at once."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, "head")
