"""Which revision of the schema a database has, and which this release needs."""

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from app.adapters.database.engine import MIGRATIONS
from app.domain.errors import Unavailable


def head() -> str:
    """The revision that this release works with."""
    found = _scripts().get_current_head()
    assert found is not None
    return found


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def known() -> tuple[str, ...]:
    """All revisions, the newest first."""
    return tuple(script.revision for script in _scripts().walk_revisions())


def downgrade(url: str, to: str) -> None:
    """Take the tables back to those of an earlier release. What only later ones have is lost."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.downgrade(config, to)


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
