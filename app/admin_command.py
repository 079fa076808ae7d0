"""`secateur admin …`: for those who run the service, on its database and store."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.adapters.database import Database
    from app.services.operations import Watched
    from app.settings import Settings

cli = typer.Typer(
    help="Look at jobs of all owners and mend them, sweep the store, migrate, back up, restore.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None, typer.Option(help="The service's data folder [SECATEUR_DATA_DIR].")
]
Job = Annotated[str, typer.Argument(help="Id of the job.")]


def _settings(data_dir: Path | None) -> "Settings":
    from app.settings import Settings

    settings = Settings()
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


@contextmanager
def _opened(settings: "Settings") -> Iterator["Database"]:
    """The database, which must be there and up to date: looking at it changes nothing."""
    from app.adapters.database import Database

    _require_migrated(settings)
    database = Database(settings.effective_database_url)
    try:
        yield database
    finally:
        database.close()


def _require_migrated(settings: "Settings") -> None:
    from app.adapters.database.schema import head
    from app.domain.errors import Conflict

    found = _revision(settings)
    if found != head():
        raise Conflict(
            f"The database's tables are at revision {found or 'none'}, and this release works with "
            f"{head()}. Run `secateur admin migrate`, or name the right --data-dir."
        )


def _revision(settings: "Settings") -> str | None:
    from app.adapters.database.schema import revision

    url = settings.effective_database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return None  # Opening it would make an empty one.
    return revision(url)


@cli.command()
def jobs(
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those that look stuck.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Jobs, the oldest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List jobs that have not ended, the oldest first, and why they may be stuck."""
    from app.services import operations

    with _opened(_settings(data_dir)) as database:
        found = operations.unfinished(database, stuck, limit)
    if as_json:
        for job in found:
            print(job.model_dump_json())
    else:
        _show(found)


def _show(found: "list[Watched]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = ("job", "owner", "status", "age", "heard of", "worker", "attempt", "stuck")
    table = Table(*columns, box=box.SIMPLE)
    for job in found:
        table.add_row(
            job.id,
            job.owner,
            str(job.status),
            _ago(job.age_seconds),
            f"{_ago(job.silent_seconds)} ago",
            job.worker or "",
            f"{job.attempt} of {job.attempts_allowed}",
            job.stuck or "",
        )
    # As wide as it is, however narrow the terminal: other commands want the ids whole.
    Console(width=1000).print(table)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@cli.command()
def requeue(job: Job, data_dir: DataDir = None) -> None:
    """Put a job back into the queue: a running one is taken from its worker, an ended one retried.

    It keeps its checkpoint, and a running one loses no attempt. The reaper announces it.
    """
    from app.services import operations

    settings = _settings(data_dir)
    with _opened(settings) as database:
        print(operations.requeue(database, settings, job))


@cli.command()
def cancel(job: Job, data_dir: DataDir = None) -> None:
    """Cancel a job of any owner."""
    from app.services import operations

    with _opened(_settings(data_dir)) as database:
        print(operations.cancel(database, job))


@cli.command()
def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete them; without it they are only listed.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """List files of the store that no row refers to, older than SECATEUR_BLOB_GRACE_SECONDS.

    The reaper deletes them now and then; this shows what it would take, or takes it now.
    """
    from app.adapters.stores import open_store
    from app.services import operations

    settings = _settings(data_dir)
    with _opened(settings) as database:
        act = operations.collect if delete else operations.garbage
        keys = list(act(database, open_store(settings), settings))
    for key in keys:
        print(key)
    done = "deleted" if delete else "to delete; --delete does it"
    print(f"{len(keys)} files {done}.", file=sys.stderr)


@cli.command()
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 unless up to date.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            help="Take the tables back to an earlier release's revision, before that release is "
            "started again. Stop the service first."
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring the database's tables up to this release. The service does the same as it starts."""
    from app.adapters import database
    from app.adapters.database.schema import head

    settings = _settings(data_dir)
    found = _revision(settings)
    if to is not None:
        _take_back(settings, found, to)
        return
    if not check:
        database.migrate(settings.effective_database_url)
        print(f"Revision {found or 'none'} before, {head()} now.")
        return
    print(f"Revision {found or 'none'}; this release works with {head()}.")
    if found != head():
        raise typer.Exit(1)


def _take_back(settings: "Settings", found: str | None, to: str) -> None:
    from app.adapters.database.schema import downgrade, known

    revisions = known()
    if found not in revisions or to not in revisions[revisions.index(found) + 1 :]:
        raise typer.BadParameter(
            f"The tables are at revision {found or 'none'}, and --to takes one before it: "
            f"{', '.join(reversed(revisions))}."
        )
    downgrade(settings.effective_database_url, to)
    print(f"Revision {found} before, {to} now. Start the release that works with it.")


@cli.command()
def verify(data_dir: DataDir = None) -> None:
    """Compare every file that a row refers to with its SHA-256; exit with 1 for any loss."""
    from app.adapters.stores import open_store
    from app.services import backup as backups

    settings = _settings(data_dir)
    with _opened(settings) as database:
        gone = list(backups.lost(database, open_store(settings)))
        total = len(backups.references(database))
    for key in gone:
        print(key)
    print(f"{total} files, {len(gone)} of them missing or damaged.", file=sys.stderr)
    if gone:
        raise typer.Exit(1)


@cli.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    data_dir: DataDir = None,
) -> None:
    """Copy SQLite's file and the store, consistently, while the service runs."""
    from app.services import backup as backups

    made = backups.backup(_settings(data_dir), folder)
    print(f"{folder}: {made.files} files, {made.bytes / 1e6:.1f} MB, revision {made.revision}.")
    for key in made.missing:
        print(f"The service has lost {key}, which a row refers to.", file=sys.stderr)
    if made.missing:
        raise typer.Exit(1)


@cli.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A backup.")],
    data_dir: DataDir = None,
) -> None:
    """Make a backup the content of a new data folder; every file is checked."""
    from app.services import backup as backups

    settings = _settings(data_dir)
    done = backups.restore(folder, settings)
    print(
        f"{settings.data_dir}: {done.files} files are checked and there; {done.requeued} jobs that "
        "were running are queued again."
    )
