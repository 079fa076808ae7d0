"""`secateur prune`: upload, submit, follow, download."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from app.client import Client
from app.domain.errors import InvalidSpec, JobError
from app.services.errors import from_problem
from app.terminal import follow, results

GOALS: dict[str, dict[str, Any]] = {
    "sparsity": {"granularity": "weight", "scope": "global"},
    "units": {"granularity": "unit"},
    "channels": {"granularity": "channel"},
    "macs": {"granularity": "channel"},
    "max-drop": {"granularity": "channel", "scope": "latency"},
}


@dataclass(frozen=True)
class Request:
    """What the command line said."""

    model: Path
    data: Path | None
    data_options: str
    goals: dict[str, float | None]
    epochs: int
    spec: Path | None
    output: Path


def run(request: Request, server: str, console: Console, key: str | None = None) -> None:
    """Do it. Raises `SecateurError` with a sentence for the user."""
    body = _spec(request)
    _check_output(request.output)
    with Client(server, key) as client:
        body["model"] = client.upload_model(request.model)["id"]
        if request.data is not None:
            options = _json(request.data_options, "--data-options")
            body["dataset"] = client.upload_dataset(request.data, options)["id"]
        id_ = client.submit(body)["id"]
        console.print(f"Job {id_} on {server}", highlight=False)
        try:
            job = follow(client, {id_: request.model.name}, console)[id_]
        except KeyboardInterrupt:
            client.cancel(id_)
            console.print(f"Cancelled job {id_}.", highlight=False)
            raise
        if job["status"] == "cancelled":
            raise JobError(f"Job {id_} was cancelled.")
        if job["status"] != "succeeded":
            raise JobError(f"Job {id_} failed: {from_problem(job['error']).detail}")
        client.download(id_, "model.keras", request.output)
    console.print(results({id_: job}, {id_: request.model.name}))
    for sentence in job["metrics"]["verdict"]:
        console.print(sentence, highlight=False)
    console.print(f"Written: {request.output}", highlight=False)


def _check_output(output: Path) -> None:
    """Find out now, and not after the job, that the result cannot be written."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise InvalidSpec(
            f"The result cannot be written to {output}: {error.strerror}. Name another file with "
            "--output."
        ) from error


def _spec(request: Request) -> dict[str, Any]:
    given = {name: value for name, value in request.goals.items() if value is not None}
    if (request.spec is None) == (not given):
        names = ", ".join(f"--{name}" for name in GOALS)
        raise InvalidSpec(f"Say what to prune: one of {names}, or a whole --spec.")
    if request.spec is not None:
        return _json(request.spec.read_text(encoding="utf-8", errors="replace"), "--spec")
    if len(given) > 1:
        raise InvalidSpec(f"One goal at a time, not {len(given)}: --{' and --'.join(given)}.")
    ((name, share),) = given.items()
    target: dict[str, Any] = {"kind": "fraction", "remove": share}
    if name == "macs":
        target = {"kind": "macs", "keep": share}
    elif name == "max-drop":
        target = {"kind": "accuracy_drop", "max_points": share}
    body: dict[str, Any] = {"prune": GOALS[name] | {"target": target}}
    if request.data is not None:
        body["fine_tune"] = {"epochs": request.epochs} if request.epochs else None
    return body


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidSpec(f"{option} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidSpec(f"{option} is {type(value).__name__}; expected a JSON object.")
    return value
