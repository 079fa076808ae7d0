"""Real servers, once a session; a fresh database for every test that asks for one."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

from app.adapters.database import Database, migrate
from app.adapters.database.tables import Base
from app.adapters.queue import CeleryQueue
from app.adapters.s3 import S3Store
from app.adapters.store import FolderStore
from tests.servers import postgres, s3, valkey


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A migrated PostgreSQL."""
    with postgres() as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server of S3's protocol with a bucket, and credentials for it in the environment."""
    with s3() as endpoint, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path) -> S3Store:
    """An empty store in the bucket."""
    return S3Store(f"s3://secateur/{uuid.uuid4().hex}", tmp_path / "local", s3_endpoint)


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("sqlite") / "empty.sqlite3"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database with all tables."""
    if request.param == "sqlite":
        file = tmp_path / "test.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_file"), file)
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("postgres_url")
    empty(url)
    return url


def empty(url: str) -> None:
    """Forget all rows of a PostgreSQL."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
    engine.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def broker(broker_url: str) -> Iterator["redis.Redis"]:
    """A client of the broker, which has forgotten all messages."""
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def queue(broker_url: str, broker: "redis.Redis") -> Iterator[CeleryQueue]:
    opened = CeleryQueue(broker_url)
    yield opened
    opened.close()
