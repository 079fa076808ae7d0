"""`secateur keys …` and `secateur audit`: on the service's database, while it runs or not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.domain.people import Scope

if TYPE_CHECKING:
    from app.adapters.database import Database
    from app.services.keys import CreatedKey

cli = typer.Typer(
    help="API keys, in the database of SECATEUR_DATABASE_URL or of the data folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None, typer.Option(help="The service's data folder [SECATEUR_DATA_DIR].")
]
Id = Annotated[str, typer.Argument(help="Id of the key: the part between its underscores.")]
Days = Annotated[float | None, typer.Option(help="Days until it expires.")]
Owner = Annotated[str | None, typer.Option(help="Only this owner's.")]


@contextmanager
def _opened(data_dir: Path | None) -> Iterator["Database"]:
    from app.adapters.database import Database, migrate
    from app.settings import Settings

    settings = Settings()
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    migrate(settings.effective_database_url)
    database = Database(settings.effective_database_url)
    try:
        yield database
    finally:
        database.close()


@cli.command()
def create(
    owner: Annotated[
        str, typer.Option(help="Whom it belongs to; owners see only what is their own.")
    ],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; more than one may be given. By default read and write."),
    ] = None,
    name: Annotated[str, typer.Option(help="For people: where it is used.")] = "",
    days: Days = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and show it, once. Only its hash is kept."""
    from app.services.keys import Keys

    with _opened(data_dir) as database:
        _show(Keys(database).create(owner, scope or [Scope.READ, Scope.WRITE], name, days))


@cli.command("list")
def list_keys(owner: Owner = None, data_dir: DataDir = None) -> None:
    """Show all keys, without their secrets."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from app.services.keys import Keys

    columns = ("id", "owner", "name", "scopes", "created", "expires", "last used", "state")
    table = Table(*columns, box=box.SIMPLE)
    with _opened(data_dir) as database:
        for key in Keys(database).all(owner):
            state = "valid" if key.valid else "revoked" if key.revoked_at else "expired"
            times = map(_day, (key.created_at, key.expires_at, key.last_used_at))
            table.add_row(key.id, key.owner, key.name, " ".join(key.scopes), *times, state)
    # As wide as it is, however narrow the terminal: other commands want the ids whole.
    Console(width=1000).print(table)


@cli.command()
def revoke(id_: Annotated[str, Id], data_dir: DataDir = None) -> None:
    """End a key at once."""
    from app.services.keys import Keys

    with _opened(data_dir) as database:
        key = Keys(database).revoke(id_)
    print(f"Key {key.id} of {key.owner} is revoked.")


@cli.command()
def rotate(
    id_: Annotated[str, Id],
    grace_hours: Annotated[
        float, typer.Option(help="How long the old key still works; 0 ends it at once.")
    ] = 24.0,
    days: Days = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key in another's place, with the same owner and scopes, and show it, once."""
    from app.services.keys import Keys

    with _opened(data_dir) as database:
        created = Keys(database).rotate(id_, grace_hours, days)
    print(f"Key {id_} still works for {grace_hours:g} hours.", file=sys.stderr)
    _show(created)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="Entries, the newest.")] = 100,
    owner: Owner = None,
    data_dir: DataDir = None,
) -> None:
    """Show who did what, as lines of JSON, oldest first."""
    from app.services import audit as entries

    with _opened(data_dir) as database:
        for entry in entries.newest(database, limit, owner):
            print(entry.model_dump_json())


def _show(created: "CreatedKey") -> None:
    # The key alone on standard output: KEY=$(secateur keys create --owner alice)
    info = created.info
    until = f"until {_day(info.expires_at)}" if info.expires_at else "without end"
    print(
        f"Key {info.id} of {info.owner} ({' '.join(info.scopes)}), valid {until}. It is shown only "
        "now: keep it in SECATEUR_API_KEY, or send it as Authorization: Bearer …",
        file=sys.stderr,
    )
    print(created.key)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"
