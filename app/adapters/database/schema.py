"""Which revision of the schema a database has, and which this release needs."""

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from app.adapters.database.engine import MIGRATIONS
from app.domain.errors import Unavailable


def head() -> str:
    """The revision that this release works with."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    found = ScriptDirectory.from_config(config).get_current_head()
    assert found is not None
    return found


def revision(url: str) -> str | None:
    """The revision of a database; None for one without our tables. Raises `Unavailable`."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise Unavailable(f"The database does not answer: {error.orig}.") from error
    finally:
        engine.dispose()
