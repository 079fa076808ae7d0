"""`secateur doctor`: looks at everything that the service needs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.doctor.check import Check
    from app.settings import Settings

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="The service's data folder [SECATEUR_DATA_DIR].")
    ] = None,
) -> None:
    """Check broker, database, store, confinement, disk, memory, versions and settings.

    Says what to do about each finding. Exits with 1 where something fails; warnings are no failure.
    """
    found = list(_examined(data_dir))
    if as_json:
        json.dump([one.model_dump() for one in found], sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        _show(found)
    if any(one.state == "fail" for one in found):
        raise typer.Exit(1)


def _examined(data_dir: Path | None) -> "Iterator[Check]":
    from pydantic import ValidationError

    from app.doctor.contradictions import not_understood
    from app.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        yield from not_understood(error)
        return
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    yield from examined(settings)


def examined(settings: "Settings") -> "Iterator[Check]":
    """Everything, one by one."""
    from app.doctor.confinement import confinement
    from app.doctor.contradictions import contradictions
    from app.doctor.machine import machine
    from app.doctor.services import broker, database, store
    from app.doctor.versions import versions

    yield from versions()
    yield from contradictions(settings)
    yield from machine(settings)
    yield broker(settings)
    yield from database(settings)
    yield store(settings)
    yield from confinement()


def _show(found: "list[Check]") -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "checked", "found", "what to do", box=box.SIMPLE)
    for one in found:
        colour = COLOURS[one.state]
        table.add_row(f"[{colour}]{one.state}[/]", one.name, escape(one.found), escape(one.advice))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
