"""A database as release 0.2.0 left it, at revision 0004, and what its store held.

Made by that release: a model, a data set, a sweep of two, and jobs that succeeded, failed, were
cancelled, run with a checkpoint, and wait; a key, an Idempotency-Key, audit and events. Of the
artifacts three are kept, to keep the file small.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, create_engine, func, null, select

from app.adapters.database.engine import MIGRATIONS

RELEASE = Path(__file__).parent / "release_0.2.0.zip"
REVISION = "0004"


def rows() -> dict[str, list[dict[str, Any]]]:
    """Table → rows."""
    with zipfile.ZipFile(RELEASE) as archive:
        found: dict[str, list[dict[str, Any]]] = json.loads(archive.read("rows.json"))
    return found


def job_in(state: str) -> str:
    """Id of the first job in a state."""
    return str(next(row["id"] for row in rows()["jobs"] if row["state"] == state))


def unpack(url: str, store: Path) -> None:
    """Make the release's database at this URL, without tables so far, and its store."""
    with zipfile.ZipFile(RELEASE) as archive:
        for name in archive.namelist():
            if name.startswith("store/"):
                target = store / name.removeprefix("store/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, REVISION)
    _fill(url)


def _fill(url: str) -> None:
    engine, tables = create_engine(url), MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if found := _typed(table, rows().get(table.name, [])):
                for row in found:
                    connection.execute(table.insert().values(row))
        assert connection.scalar(select(func.count()).select_from(tables.tables["jobs"])) == 8
    engine.dispose()


def _typed(table: Any, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """SQLite's numbers as the booleans that they are; nothing as NULL, and not as JSON's null."""
    booleans = [column.name for column in table.columns if column.type.python_type is bool]
    return [
        {name: null() if value is None else value for name, value in row.items()}
        | {name: bool(row[name]) for name in booleans}
        for row in found
    ]
