"""What the commands that talk to a service share: options, exit codes, what is said and where.

Progress and sentences go to stderr, what was asked for to stdout: with `--json` that is JSON alone.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console

from app.client import Secateur
from app.client.drivers import DEFAULT_URL, URL_VARIABLE
from app.client.errors import JobCancelled, Unreachable
from app.domain.errors import (
    Busy,
    Forbidden,
    InvalidSpec,
    SecateurError,
    Unauthenticated,
    Unavailable,
)


class Code(IntEnum):
    """Exit codes, as the README lists them."""

    DONE = 0
    FAILED = 1
    """The job failed, or the service refused the file or the spec."""
    USAGE = 2
    """The command line is wrong; typer's own."""
    GOAL_MISSED = 3
    """The job succeeded, and its goal or a gate was not reached."""
    NO_SERVICE = 4
    """No answer, no (sufficient) key, or too much asked for: later, or elsewhere."""
    CANCELLED = 5
    INTERRUPTED = 130
    """Ctrl-C; as shells say it."""


WIDE = 160
"""Columns of a table that nobody looks at in a terminal."""
LATER = (Unreachable, Unavailable, Busy, Unauthenticated, Forbidden)

Server = Annotated[
    str | None,
    typer.Option(help=f"Address of the service [{URL_VARIABLE}].", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="SECATEUR_API_KEY",
        show_envvar=False,
        help="API key, better given in the environment: others see command lines "
        "[SECATEUR_API_KEY].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, on stdout.")]
JobId = Annotated[str, typer.Argument(help="Id of a job.")]
Data = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Data set: .npz, .csv, .parquet, .zip."),
]
DataOptions = Annotated[
    str, typer.Option(help='How to read the data, as JSON: {"scale": 0.0039, "target": …}.')
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Say the id and do not wait; needs a --server.")
]
ModelFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="A .keras or .h5 file.")
]


def code_of(error: SecateurError) -> Code:
    """The exit code of an error."""
    if isinstance(error, JobCancelled):
        return Code.CANCELLED
    return Code.NO_SERVICE if isinstance(error, LATER) else Code.FAILED


class Speaker:
    """Says things: `say` to people, `answer` what was asked for."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.people = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self.out = Console(highlight=False, markup=False, width=None if _terminal() else WIDE)

    def say(self, text: str) -> None:
        """A sentence for people."""
        self.people.print(text)

    def answer(self, value: Any, *shown: Any) -> None:
        """JSON of the value, or what people are shown instead."""
        if self.as_json:
            print(json.dumps(value, default=_plain, ensure_ascii=False))
            return
        for each in shown:
            self.out.print(each, soft_wrap=isinstance(each, str))


def _terminal() -> bool:
    return sys.stdout.isatty()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return str(value)


@contextmanager
def speaking(as_json: bool) -> Iterator[Speaker]:
    """A command's body: its errors become a sentence, JSON where that was asked for, and a code."""
    speaker = Speaker(as_json)
    try:
        yield speaker
    except SecateurError as error:
        if as_json:
            speaker.answer({"error": error.as_problem()})
        print(f"secateur: {error.detail}", file=sys.stderr)
        raise typer.Exit(code_of(error)) from error


def named(server: str | None) -> str | None:
    """The address that was given, by option or environment."""
    return server or os.environ.get(URL_VARIABLE) or None


@contextmanager
def connected(server: str | None, key: str | None) -> Iterator[Secateur]:
    """The service that is named, or the one that `secateur serve` runs on this machine."""
    with Secateur(named(server) or DEFAULT_URL, key) as secateur:
        yield secateur


@contextmanager
def connected_or_own(server: str | None, key: str | None, speaker: Speaker) -> Iterator[Secateur]:
    """The service that is named, or one that is started for this command and then gone."""
    if named(server):
        with connected(server, key) as secateur:
            yield secateur
        return
    from app.local import passing_service  # It brings the service's own imports along.

    speaker.say("No --server is named: starting a service for this command.")
    with passing_service() as url, Secateur(url, key) as secateur:
        yield secateur


def check_detach(detach: bool, server: str | None) -> None:
    """Raises `BadParameter`: a service of one's own ends with the command."""
    if detach and not named(server):
        raise typer.BadParameter(
            f"--detach needs a service that stays: name one by --server or {URL_VARIABLE}."
        )


def read_json(text: str, option: str) -> dict[str, Any]:
    """A JSON object. Raises `BadParameter`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{option} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} is {type(value).__name__}; expected a JSON object.")
    return value


def read_json_file(path: Path, option: str) -> dict[str, Any]:
    """A JSON object out of a file. Raises `BadParameter`."""
    return read_json(path.read_text(encoding="utf-8", errors="replace"), option)


def check_writable(output: Path) -> None:
    """Find out now, and not after the job, that results cannot be written. Raises `InvalidSpec`."""
    folder = output.parent if output.suffix == ".keras" else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidSpec(
            f"The result cannot be written to {output}: {error.strerror}. Name another place with "
            "--output."
        ) from error
