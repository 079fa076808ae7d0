"""Sessions, the clock and the migrations, on both databases."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from app.adapters.database import (
    Database,
    DatasetRow,
    EventRow,
    JobRow,
    Limits,
    ModelRow,
    SweepRow,
    WorkerRow,
    migrate,
)
from app.adapters.database.engine import MIGRATIONS, SERVER_OPTIONS
from app.adapters.database.tables import Base, IdempotencyRow
from app.domain.errors import Unavailable
from app.domain.people import DEFAULT_OWNER
from tests.servers import free_port


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'sub' / 'fresh.sqlite3'}"
        return
    url = request.getfixturevalue("postgres_url")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE fresh"))
        yield make_url(url).set(database="fresh").render_as_string(hide_password=False)
        connection.execute(text("DROP DATABASE fresh WITH (FORCE)"))
    engine.dispose()


# --- migrations --------------------------------------------------------------------------------
def test_the_migrations_make_the_tables_of_the_models(fresh_url: str) -> None:
    migrate(fresh_url)
    migrate(fresh_url)
    engine = create_engine(fresh_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(Base.metadata.tables) < set(inspect(connection).get_table_names())
    engine.dispose()


# Imports once, then forks: the four start within a millisecond of each other.
_FOUR = """
import multiprocessing, sys
from app.adapters.database import migrate

def one(barrier, url):
    barrier.wait()
    migrate(url)

context = multiprocessing.get_context("fork")
barrier = context.Barrier(4)
four = [context.Process(target=one, args=(barrier, sys.argv[1])) for _ in range(4)]
for process in four:
    process.start()
for process in four:
    process.join(30)
sys.exit(max(process.exitcode or 0 for process in four))
"""


def test_four_processes_may_migrate_at_once(fresh_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FOUR, fresh_url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    engine = create_engine(fresh_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    engine.dispose()


# --- sessions ----------------------------------------------------------------------------------
def row(id_: str = "mdl_1") -> ModelRow:
    return ModelRow(
        id=id_, created_at=1.0, filename="f", key="k", bytes=2**40, sha256="a", info={"a": None}
    )


def test_the_clock_is_the_time(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(select(func.clock())) == pytest.approx(time.time(), abs=2)


def test_what_is_written_is_read(database: Database) -> None:
    with database.write() as session:
        session.add(row())
    with database.read() as session:
        found = session.get_one(ModelRow, "mdl_1")
    assert (found.bytes, found.info, found.created_at) == (2**40, {"a": None}, 1.0)


def test_an_error_undoes_the_whole_transaction(database: Database) -> None:
    def write_and_break() -> None:
        with database.write() as session:
            session.add(row())
            session.flush()
            session.execute(text("INSERT INTO models (id) VALUES ('mdl_1')"))

    with pytest.raises(IntegrityError):
        write_and_break()
    with database.read() as session:
        assert session.get(ModelRow, "mdl_1") is None


def test_concurrent_increments_all_count(database: Database) -> None:
    with database.write() as session:
        session.add(row())
    barrier = threading.Barrier(8)

    def increment(_: int) -> None:
        barrier.wait()
        for _ in range(5):
            with database.write() as session:
                session.execute(
                    update(ModelRow)
                    .values(bytes=ModelRow.bytes + 1)
                    .execution_options(synchronize_session=False)
                )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(8)))
    with database.read() as session:
        assert session.get_one(ModelRow, "mdl_1").bytes == 2**40 + 40


def test_events_go_with_their_job(database: Database) -> None:
    # SQLite forgets foreign keys unless told to mind them.
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(
            text("INSERT INTO events (job_id, id, at, kind, data) VALUES ('none', 1, 0, 'x', '{}')")
        )


def test_a_composite_key_is_unique(database: Database) -> None:
    def add() -> None:
        with database.write() as session:
            session.add(
                IdempotencyRow(
                    scope="jobs", key="k", created_at=0.0, fingerprint="f", status=1, body={}
                )
            )

    add()
    with pytest.raises(IntegrityError):
        add()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all.sqlite3",
        "postgresql+psycopg://u:p@127.0.0.1:{port}/x?connect_timeout=2",
    ],
)
def test_an_absent_database_is_unavailable(url: str) -> None:
    database = Database(url.format(port=free_port()))
    with pytest.raises(Unavailable):
        database.ping()
    database.close()


# --- PostgreSQL's limits and restarts ----------------------------------------------------------
def test_a_statement_that_takes_too_long_is_given_up(postgres_url: str) -> None:
    database = Database(postgres_url, Limits(statement_seconds=0.1))
    with pytest.raises(Unavailable), database.read() as session:
        session.execute(text("SELECT pg_sleep(5)"))
    database.ping()
    database.close()


def test_who_finds_no_connection_is_told_to_try_again(postgres_url: str) -> None:
    database = Database(postgres_url, Limits(connections=1, wait_seconds=0.05))
    with database.read() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(Unavailable, match="in use"):
            database.ping()
    database.ping()
    database.close()


def test_the_url_s_own_words_hold(postgres_url: str) -> None:
    url = make_url(postgres_url).update_query_dict({"options": "-c statement_timeout=1234"})
    database = Database(url.render_as_string(hide_password=False))
    with database.read() as session:
        assert session.scalar(text("SHOW statement_timeout")) == "1234ms"
    database.close()


def test_a_restart_of_the_server_costs_the_open_transaction_and_no_more(postgres_url: str) -> None:
    database, other = Database(postgres_url), Database(postgres_url)

    def interrupted() -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))
            # What a restart does to everybody's connection.
            with other.write() as killer:
                killer.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
            session.execute(text("SELECT 1"))

    database.ping()
    with pytest.raises(Unavailable):
        interrupted()
    database.ping()
    database.close()
    other.close()


def test_jobs_that_wait_keep_their_order_when_queues_come(fresh_url: str) -> None:
    migrate(fresh_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = fresh_url
    command.downgrade(config, "0004")
    engine = create_engine(fresh_url)
    with engine.begin() as connection:
        for id_, kind, at in (("job_1", "prune", 5.5), ("pln_1", "plan", 6.5)):
            connection.execute(
                text(
                    "INSERT INTO jobs (id, kind, state, created_at, updated_at, spec, model_id, "
                    "fence, attempts_allowed, cancel_requested, time_limit_seconds, seconds_used, "
                    f"last_event) VALUES ('{id_}', '{kind}', 'queued', {at}, 1, '{{}}', 'mdl_1', "
                    "0, 3, false, 60, 0, 1)"
                )
            )
        connection.execute(
            text("INSERT INTO workers (name, seen_at, confinement) VALUES ('w', 1, '{}')")
        )
    engine.dispose()
    migrate(fresh_url)
    database = Database(fresh_url)
    with database.read() as session:
        job, plan = session.get_one(JobRow, "job_1"), session.get_one(JobRow, "pln_1")
        assert (job.queue, job.priority, job.queued_at, job.rank) == ("jobs", 0, 5.5, 5.5)
        assert plan.queue == "quick"
        assert session.get_one(WorkerRow, "w").queues == "jobs quick"
    database.close()


def test_what_is_there_belongs_to_the_default_owner(fresh_url: str) -> None:
    migrate(fresh_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = fresh_url
    command.downgrade(config, "0002")
    engine = create_engine(fresh_url)
    upload = "INSERT INTO {} (id, created_at, filename, key, bytes, sha256, info) VALUES "
    with engine.begin() as connection:
        connection.execute(text(upload.format("models") + "('mdl_1', 1, 'm', 'k', 1, 'a', '{}')"))
        connection.execute(text(upload.format("datasets") + "('dts_1', 1, 'd', 'k', 1, 'a', '{}')"))
        connection.execute(text("INSERT INTO sweeps VALUES ('swp_1', 1, '{}')"))
        connection.execute(
            text(
                "INSERT INTO jobs (id, kind, state, created_at, updated_at, spec, model_id, fence, "
                "attempts_allowed, cancel_requested, time_limit_seconds, seconds_used, last_event) "
                "VALUES ('job_1', 'prune', 'queued', 1, 1, '{}', 'mdl_1', 0, 3, false, 60, 0, 1)"
            )
        )
        connection.execute(text("INSERT INTO events VALUES ('job_1', 1, 1, 'queued', '{}')"))
        connection.execute(
            text("INSERT INTO idempotency_keys VALUES ('jobs', 'k', 1, 'f', 202, NULL, '{}')")
        )
    engine.dispose()
    migrate(fresh_url)
    database = Database(fresh_url)
    with database.read() as session:
        for kind, id_ in (
            (ModelRow, "mdl_1"),
            (DatasetRow, "dts_1"),
            (SweepRow, "swp_1"),
            (JobRow, "job_1"),
        ):
            assert session.get_one(kind, id_).owner == DEFAULT_OWNER
        assert session.get_one(EventRow, ("job_1", 1)).kind == "queued"
        assert session.get_one(IdempotencyRow, ("jobs:default", "k")).status == 202
    database.close()
    command.downgrade(config, "0002")
    engine = create_engine(fresh_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT scope FROM idempotency_keys")).scalar() == "jobs"
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 1
    engine.dispose()


def test_jobs_outlive_the_migration_to_sweeps(fresh_url: str) -> None:
    if fresh_url.startswith("sqlite:///"):
        Path(fresh_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = fresh_url
    command.upgrade(config, "0001")
    engine = create_engine(fresh_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs (id, kind, state, created_at, updated_at, spec, model_id, fence, "
                "attempts_allowed, cancel_requested, time_limit_seconds, seconds_used, last_event) "
                "VALUES ('job_1', 'prune', 'queued', 1, 1, '{}', 'mdl_1', 0, 3, false, 60, 0, 1)"
            )
        )
        connection.execute(text("INSERT INTO events VALUES ('job_1', 1, 1, 'queued', '{}')"))
    engine.dispose()
    migrate(fresh_url)
    database = Database(fresh_url)
    with database.read() as session:
        job = session.get_one(JobRow, "job_1")
        assert (job.state, job.sweep_id, job.varied) == ("queued", None, None)
        assert session.get_one(EventRow, ("job_1", 1)).kind == "queued"
    database.close()


def test_a_client_that_falls_silent_holds_no_rows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that vanishes in a transaction must not make others wait for its locks."""
    options = SERVER_OPTIONS | {"idle_in_transaction_session_timeout": "500ms"}
    monkeypatch.setattr("app.adapters.database.engine.SERVER_OPTIONS", options)
    silent, other = Database(postgres_url), Database(postgres_url)
    try:
        with pytest.raises(Unavailable):
            wait_for_the_silent(silent, other)
    finally:
        silent.close()
        other.close()


def wait_for_the_silent(silent: Database, other: Database) -> None:
    with silent.write() as session:
        session.execute(text("LOCK TABLE sweeps"))
        started = time.monotonic()
        with other.write() as waiting:
            waiting.execute(text("LOCK TABLE sweeps"))
        assert 0.3 < time.monotonic() - started < 10
        session.execute(text("SELECT 1"))


def test_connections_notice_that_the_other_end_is_gone(postgres_url: str) -> None:
    """Both ends are told; that it works is shown by benchmarks/two_machines.py."""
    database = Database(postgres_url)
    try:
        with database.read() as session:
            for name in ("tcp_user_timeout", "tcp_keepalives_idle", "lock_timeout"):
                assert session.scalar(text(f"SHOW {name}")) not in ("0", "7200")
            raw = session.connection().connection.driver_connection
            with socket.socket(fileno=os.dup(raw.fileno())) as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15000
    finally:
        database.close()
