"""`secateur jobs`, `logs`, `download`, `cancel` and `analyse`: looking at what a service has."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.client import Job
from app.client.progress import share
from app.client.resources import JobState
from app.client.wording import line
from app.command_line import (
    JobId,
    Json,
    Key,
    Server,
    connected,
    connected_or_own,
    speaking,
)
from app.domain.analysis import ModelAnalysis
from app.domain.job import Status


def jobs(
    status: Annotated[Status | None, typer.Option(help="Only those in this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="No more than so many.")] = 20,
    as_json: Json = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """List jobs, newest first."""
    with speaking(as_json) as speaker, connected(server, key) as secateur:
        found = [job.state for job in secateur.jobs.list(limit, status)]
        speaker.answer({"items": found}, job_table(found))


def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    as_json: Json = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Say what happened to a job; with --json one event a line."""
    with speaking(as_json) as speaker, connected(server, key) as secateur:
        for event in secateur.jobs.get(job).events(follow=follow):
            speaker.answer(event, line(event))


def download(
    job: JobId,
    names: Annotated[
        list[str] | None, typer.Argument(help="Files, such as model.keras; all, if none is named.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path(),
    as_json: Json = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Fetch a job's files; their hashes are checked."""
    with speaking(as_json) as speaker, connected(server, key) as secateur:
        found = secateur.jobs.get(job)
        files = fetch(found, names or [file.name for file in found.artifacts()], output)
        speaker.answer({"files": files}, *map(str, files))


def fetch(job: Job, names: list[str], folder: Path) -> list[Path]:
    """Files of a job, into a folder that need not exist yet."""
    return [job.download(name, f"{folder}/") for name in names]


def cancel(job: JobId, as_json: Json = False, server: Server = None, key: Key = None) -> None:
    """Ask a job to stop; a running one takes a moment."""
    with speaking(as_json) as speaker, connected(server, key) as secateur:
        state = secateur.jobs.get(job).cancel()
        speaker.answer(state, f"{state.id} is {'ending' if not state.done else state.status}.")


def analyse(
    model: Annotated[str, typer.Argument(help="A .keras or .h5 file, or the id of a model.")],
    as_json: Json = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Show what could be removed from a model, layer by layer, and why the rest stays."""
    if not model.startswith("mdl_") and not Path(model).is_file():
        raise typer.BadParameter(f"There is no file {model!r}, and it is no id of a model.")
    with speaking(as_json) as speaker, connected_or_own(server, key, speaker) as secateur:
        found = secateur.analyse(model)
        total = f"{found.parameters:,} parameters, {found.macs:,} MACs for one sample"
        speaker.answer(found, layer_table(found), total, *found.notes)


def job_table(found: list[JobState]) -> Table:
    """Jobs, one a row."""
    table = Table()
    for title in ("job", "status", "done", "created", "prunes", "model"):
        table.add_column(title, no_wrap=title in ("job", "status"))
    for state in found:
        at = state.created_at.astimezone(UTC)
        table.add_row(
            state.id, state.status, f"{share(state):.0%}", _ago(at), _goal(state), state.model
        )
    return table


def _goal(state: JobState) -> str:
    prune = state.spec.get("prune") or {}
    kind = prune.get("granularity", "")
    kind = kind.get("kind", "") if isinstance(kind, dict) else kind
    target = dict(prune.get("target") or {})
    said = ", ".join(
        f"{name} {value}" for name, value in target.items() if name != "kind" and value is not None
    )
    return escape(f"{kind}: {target.get('kind', '')} {said}".strip())


def _ago(at: datetime) -> str:
    seconds = (datetime.now(UTC) - at).total_seconds()
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {name} ago"
    return f"{max(seconds, 0):.0f} s ago"


def layer_table(found: ModelAnalysis) -> Table:
    """Layers, one a row."""
    table = Table()
    for title in ("layer", "class", "units", "may go", "parameters", "MACs", "why the rest stays"):
        right = title in ("units", "may go", "parameters", "MACs")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for layer in found.layers:
        table.add_row(
            escape(layer.name),
            escape(layer.class_name),
            "" if layer.units is None else f"{layer.units:,}",
            "" if layer.units is None else f"{layer.prunable:,}",
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            escape(layer.frozen or ""),
        )
    return table
