"""`secateur demo`: the main job end to end, over HTTP, on real digits."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from app.client import Client
from app.domain.errors import Unavailable
from app.terminal import follow, results

START_SECONDS = 60.0

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
    with _service(out / "service") as url:
        console.print(f"1. The service runs at {url}: API, workers, Valkey, SQLite.")
        console.print("2. Training a small dense and a small convolutional network …")
        if not _keras("train", out):
            raise Unavailable(f"Training the demo's models failed; {out / 'train.log'} says why.")
        with Client(url) as client:
            console.print("3. Uploading them, submitting three jobs.")
            jobs = _submit(client, out)
            ended = follow(client, {id_: TITLES[name] for name, id_ in jobs.items()}, console)
            failed = _failures(jobs, ended, console)
            good = {name: id_ for name, id_ in jobs.items() if name not in failed}
            files = _download(client, good, out)
        console.print("4. Loading every downloaded model in plain Keras, measuring again:")
        held = _keras("check", out)
    _sum_up(good, ended, files, console)
    return held and not failed


@contextmanager
def _service(data_dir: Path) -> Iterator[str]:
    """A whole service on a free port; its log is beside its data."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "app.cli",
                "serve",
                "--port",
                "0",
                "--data-dir",
                str(data_dir),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # It listens on loopback for itself, whatever the user's own service asks for.
            env=os.environ | {"SECATEUR_REQUIRE_KEYS": "auto"},
        )
        try:
            yield _address(process, data_dir / "service.log")
        finally:
            process.terminate()
            process.wait(timeout=60)


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    # One line comes when the service is ready; the end of the stream when it could not start.
    started = time.monotonic()
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise Unavailable(
        f"The service ended after {time.monotonic() - started:.0f} s without getting ready; its "
        f"log is {log}."
    )


def _keras(task: str, out: Path) -> bool:
    """Run a Keras part in a process of its own: this package never imports Keras."""
    log = out / f"{task}.log"
    with log.open("wb") as noise:
        done = subprocess.run([sys.executable, "-m", "workers.demo", task, str(out)], stderr=noise)
    if done.returncode:
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return done.returncode == 0


def _submit(client: Client, out: Path) -> dict[str, str]:
    dataset = client.upload_dataset(out / "digits.npz", {"scale": 1 / 255})["id"]
    models = {name: client.upload_model(out / f"{name}.keras")["id"] for name in ("mlp", "cnn")}
    return {
        name: client.submit({"model": models[model], "dataset": dataset} | spec)["id"]
        for name, (model, spec) in JOBS.items()
    }


def _failures(
    jobs: dict[str, str], ended: dict[str, dict[str, Any]], console: Console
) -> frozenset[str]:
    failed = set()
    for name, id_ in jobs.items():
        job = ended[id_]
        if job["status"] != "succeeded":
            failed.add(name)
            reason = (job["error"] or {}).get("detail", "no reason given")
            console.print(f"[red]{TITLES[name]}: {job['status']}: {reason}[/]")
    return frozenset(failed)


def _download(client: Client, jobs: dict[str, str], out: Path) -> list[Path]:
    files = []
    reported = {}
    for name, id_ in jobs.items():
        for artifact in client.artifacts(id_):
            files.append(client.download(id_, artifact["name"], out / name / artifact["name"]))
        after = client.job(id_)["metrics"]["after"]
        reported[name] = {
            "accuracy": after["evaluation"]["accuracy"]["value"],
            "parameters": after["parameters"],
        }
    (out / "reported.json").write_text(json.dumps(reported), encoding="utf-8")
    return files


def _sum_up(
    jobs: dict[str, str],
    ended: dict[str, dict[str, Any]],
    files: list[Path],
    console: Console,
) -> None:
    if jobs:
        succeeded = {id_: ended[id_] for id_ in jobs.values()}
        console.print(results(succeeded, {id_: TITLES[name] for name, id_ in jobs.items()}))
        for name, id_ in jobs.items():
            for sentence in ended[id_]["metrics"]["verdict"]:
                console.print(f"  [dim]{name}:[/] {sentence}", highlight=False)
    console.print("\nDownloaded:")
    for file in files:
        if file.suffix in (".keras", ".tflite", ".html"):
            console.print(f"  {file}", highlight=False)
    console.print(
        "\nTry it yourself: [bold]make serve[/], then open http://127.0.0.1:8000/docs (Swagger UI)."
    )
