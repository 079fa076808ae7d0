"""`secateur demo`: the main job end to end, over HTTP, on real digits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from app.client import Job, Result, Secateur, SecateurError
from app.domain.errors import Unavailable
from app.local import service
from app.terminal import follow, results

JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "weights": (
        "mlp",
        {
            "prune": {
                "granularity": "weight",
                "scope": "global",
                "target": {"kind": "fraction", "remove": 0.9},
            },
            "schedule": {"kind": "polynomial", "steps": 4, "epochs_per_step": 1},
            "fine_tune": {"epochs": 10},
        },
    ),
    "units": (
        "mlp",
        {
            "prune": {
                "granularity": "unit",
                "target": {"kind": "fraction", "remove": 0.5},
            },
            "fine_tune": {"epochs": 10},
            "exports": ["keras", "litert"],
        },
    ),
    "channels": (
        "cnn",
        {
            "prune": {
                "granularity": "channel",
                "target": {"kind": "fraction", "remove": 0.5},
            },
            "fine_tune": {"epochs": 6},
            "exports": ["keras", "litert"],
        },
    ),
}
TITLES = {
    "weights": "90 % of the weights zero",
    "units": "half the units removed",
    "channels": "half the channels removed",
}


def run(out: Path, console: Console) -> bool:
    """Train, upload, prune, download, check; True when everything held.

    Raises:
        Unavailable: the service did not start.
    """
    out.mkdir(parents=True, exist_ok=True)
    console.print("[bold]Secateur demo[/]: three models pruned over HTTP, on 5,000 real digits.")
    with service(out / "service") as url:
        console.print(f"1. The service runs at {url}: API, workers, Valkey, SQLite.")
        console.print("2. Training a small dense and a small convolutional network …")
        if not _keras("train", out):
            raise Unavailable(f"Training the demo's models failed; {out / 'train.log'} says why.")
        with Secateur(url) as secateur:
            console.print("3. Uploading them, submitting three jobs.")
            jobs = _submit(secateur, out)
            ended = follow({TITLES[name]: job for name, job in jobs.items()}, console)
            good = _succeeded(jobs, ended, console)
            files = _download(good, out)
        console.print("4. Loading every downloaded model in plain Keras, measuring again:")
        held = _keras("check", out)
    _sum_up(good, files, console)
    return held and len(good) == len(JOBS)


def _keras(task: str, out: Path) -> bool:
    """Run a Keras part in a process of its own: this package never imports Keras."""
    log = out / f"{task}.log"
    with log.open("wb") as noise:
        done = subprocess.run([sys.executable, "-m", "workers.demo", task, str(out)], stderr=noise)
    if done.returncode:
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return done.returncode == 0


def _submit(secateur: Secateur, out: Path) -> dict[str, Job]:
    dataset = secateur.datasets.upload(out / "digits.npz", {"scale": 1 / 255}, progress=False).id
    models = {
        name: secateur.models.upload(out / f"{name}.keras", progress=False).id
        for name in ("mlp", "cnn")
    }
    return {
        name: secateur.jobs.submit({"model": models[model], "dataset": dataset} | spec)
        for name, (model, spec) in JOBS.items()
    }


def _succeeded(
    jobs: dict[str, Job], ended: dict[str, Result | SecateurError], console: Console
) -> dict[str, Result]:
    good = {}
    for name in jobs:
        result = ended[TITLES[name]]
        if isinstance(result, Result):
            good[name] = result
        else:
            console.print(f"[red]{TITLES[name]}:[/]", result.detail, markup=True)
    return good


def _download(good: dict[str, Result], out: Path) -> list[Path]:
    files = []
    reported = {}
    for name, result in good.items():
        (out / name).mkdir(exist_ok=True)
        for artifact in result.artifacts():
            files.append(result.download(artifact.name, out / name))
        after = result.metrics.after
        reported[name] = {
            "accuracy": after.evaluation["accuracy"].value,
            "parameters": after.parameters,
        }
    (out / "reported.json").write_text(json.dumps(reported), encoding="utf-8")
    return files


def _sum_up(good: dict[str, Result], files: list[Path], console: Console) -> None:
    if good:
        console.print(results({TITLES[name]: result.metrics for name, result in good.items()}))
        for name, result in good.items():
            for sentence in result.verdict:
                console.print(f"  [dim]{name}:[/] {sentence}", highlight=False)
    console.print("\nDownloaded:")
    for file in files:
        if file.suffix in (".keras", ".tflite", ".html"):
            console.print(f"  {file}", highlight=False)
    console.print(
        "\nTry it yourself: [bold]make serve[/], then open http://127.0.0.1:8000/ "
        "(Swagger UI: /docs)."
    )
