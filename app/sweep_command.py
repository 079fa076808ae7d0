"""`secateur sweep`: many specs over one model, compared."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from app.client import Secateur, Sweep
from app.client.progress import Bars
from app.client.resources import SweepJob, SweepState
from app.command_line import (
    Code,
    Speaker,
    check_writable,
    connected_or_own,
    read_json,
    read_json_file,
)
from app.domain.job import Status
from app.domain.pareto import by_interest

BASE: dict[str, Any] = {"prune": {"target": {"kind": "fraction"}}}
"""What a grid varies where no base is given."""
FILES = ("table.csv", "plot.svg")


@dataclass(frozen=True)
class Request:
    """What the command line said."""

    model: Path | None
    data: Path | None
    data_options: str
    grid: tuple[str, ...]
    base: Path | None
    epochs: int | None
    spec: Path | None
    output: Path | None
    detach: bool = False


def run(request: Request, server: str | None, key: str | None, speaker: Speaker) -> Code:
    """Do it. Raises `SecateurError` with a sentence for the user."""
    spec = _spec(request)
    options = read_json(request.data_options, "--data-options")
    if request.output is not None:
        check_writable(request.output)
    with connected_or_own(server, key, speaker) as secateur, Bars(speaker.people) as bars:
        _add_uploads(secateur, spec, request, options, bars)
        sweep = secateur.sweeps.submit(spec)
        speaker.say(f"Sweep {sweep.id} of {len(sweep.state.jobs)} jobs on {secateur.url}")
        if request.detach:
            speaker.answer(sweep.state, sweep.id)
            return Code.DONE
        state = _wait(sweep, bars, speaker)
        files = _save(secateur, sweep, request.output) if request.output is not None else []
    shown = [table(state), *([f"Written: {', '.join(map(str, files))}"] if files else [])]
    speaker.answer({"sweep": state, "files": files}, *shown)
    ended = {job.status for job in state.jobs}
    if Status.FAILED in ended:
        return Code.FAILED
    return Code.CANCELLED if Status.CANCELLED in ended else Code.DONE


def _wait(sweep: Sweep, bars: Bars, speaker: Speaker) -> SweepState:
    try:
        return sweep.wait(progress=bars.bar(f"{len(sweep.state.jobs)} jobs"))
    except KeyboardInterrupt:
        sweep.cancel()
        speaker.say(f"Cancelled sweep {sweep.id}.")
        raise typer.Exit(Code.INTERRUPTED) from None


def _spec(request: Request) -> dict[str, Any]:
    """The sweep, without the ids of what is uploaded."""
    if request.spec is not None:
        if request.grid or request.base:
            raise typer.BadParameter("Give either a whole --spec, or --grid with --base.")
        return read_json_file(request.spec, "--spec")
    if not request.grid:
        raise typer.BadParameter(
            "Say what varies: --grid prune.target.remove=0.5,0.9 (more than once), or a whole "
            "--spec."
        )
    if request.model is None:
        raise typer.BadParameter("Name the model's file.")
    base = BASE if request.base is None else read_json_file(request.base, "--base")
    if request.epochs is not None:
        base = base | {"fine_tune": {"epochs": request.epochs} if request.epochs else None}
    return {"base": dict(base), "grid": dict(map(values, request.grid))}


def values(text: str) -> tuple[str, list[Any]]:
    """`prune.granularity=weight,unit` as a path and its values; each is JSON where it can be.

    Raises:
        BadParameter: there is no `=`, or no value.
    """
    path, equals, said = text.partition("=")
    if not equals or not path.strip() or not said.strip():
        raise typer.BadParameter(
            f"--grid {text!r}: expected PATH=VALUE,VALUE,…, such as prune.target.remove=0.5,0.9."
        )
    if said.lstrip().startswith("["):
        try:
            return path.strip(), list(json.loads(said))
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"--grid {path}: the list is not valid JSON: {error}.") from (
                error
            )
    return path.strip(), [_value(each.strip()) for each in said.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _add_uploads(
    secateur: Secateur,
    spec: dict[str, Any],
    request: Request,
    options: dict[str, Any],
    bars: Bars,
) -> None:
    """Upload, and name what was uploaded in the base or in each spec."""
    ids: dict[str, str] = {}
    if request.model is not None:
        bar = bars.bar(request.model.name)
        ids["model"] = secateur.models.upload(request.model, progress=bar).id
    if request.data is not None:
        bar = bars.bar(request.data.name)
        ids["dataset"] = secateur.datasets.upload(request.data, options, progress=bar).id
    if isinstance(spec.get("base"), dict):
        spec["base"] = spec["base"] | ids
    if isinstance(spec.get("specs"), list):
        spec["specs"] = [each | ids if isinstance(each, dict) else each for each in spec["specs"]]


def _save(secateur: Secateur, sweep: Sweep, folder: Path) -> list[Path]:
    """The comparison, and the models that nothing else beats."""
    files = [sweep.download(name, folder) for name in FILES]
    for job in sweep.state.jobs:
        if job.pareto and job.status is Status.SUCCEEDED:
            place = folder / job.job / "model.keras"
            files.append(secateur.jobs.get(job.job).download("model.keras", place))
    return files


def table(state: SweepState) -> Table:
    """A sweep's jobs side by side; ● marks what nothing else beats."""
    made = Table(title="● nothing else is better")
    paths = dict.fromkeys(path for job in state.jobs for path in job.varied)
    names = dict.fromkeys(
        name for job in state.jobs if job.after for name in by_interest(job.after.evaluation)
    )
    metric = next(iter(names), "")
    for title in ("", "job", *paths, metric, "non-zero", "MACs"):
        made.add_column(title, overflow="fold")
    for job in state.jobs:
        varied = (json.dumps(job.varied.get(path), ensure_ascii=False) for path in paths)
        made.add_row("●" if job.pareto else "", job.job, *varied, *_figures(job, metric))
    return made


def _figures(job: SweepJob, metric: str) -> tuple[str, str, str]:
    if job.after is None:
        return str(job.status), "", ""
    value = job.after.evaluation.get(metric)
    said = f"{value.value:.4f}" if value is not None and value.value is not None else ""
    return said, f"{job.after.nonzero_parameters:,}", f"{job.after.macs:,}"
