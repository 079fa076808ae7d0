"""Progress bars and tables for people at a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from app.client import Client


def follow(client: Client, jobs: Mapping[str, str], console: Console) -> dict[str, dict[str, Any]]:
    """Show a bar for each job until all have ended.

    Args:
        jobs: title by job id.

    Returns:
        The ended jobs by id.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}"),
        console=console,
    ) as bars:
        tasks = {
            id_: bars.add_task(title, total=1.0, doing="queued") for id_, title in jobs.items()
        }
        ended: dict[str, dict[str, Any]] = {}
        for id_ in jobs:
            for job in client.watch(id_):
                _show(bars, tasks[id_], job)
            ended[id_] = job
    return ended


def _show(bars: Progress, task: TaskID, job: Mapping[str, Any]) -> None:
    if job["done"]:
        share = 1.0 if job["status"] == "succeeded" else None
        bars.update(task, completed=share, doing=job["status"])
        bars.stop_task(task)
        return
    progress = job["progress"]
    if progress is not None:
        bars.update(task, completed=progress["share"], doing=_doing(progress))


def _doing(progress: Mapping[str, Any]) -> str:
    text = str(progress["phase"])
    if progress.get("epoch"):
        text += f", epoch {progress['epoch']} of {progress['epochs']}"
    for name, value in sorted(progress["metrics"].items()):
        if value is not None and name in ("loss", "accuracy", "val_accuracy"):
            text += f", {name} {value:.4f}"
    if progress["eta_seconds"] is not None:
        text += f", {progress['eta_seconds']:.0f} s left"
    return text


def results(jobs: Mapping[str, dict[str, Any]], titles: Mapping[str, str]) -> Table:
    """A table before/after of succeeded jobs, one column each."""
    table = Table(title="Before → after")
    table.add_column("")
    for id_ in jobs:
        table.add_column(titles[id_], justify="right")
    metrics = [job["metrics"] for job in jobs.values()]
    rows: list[tuple[str, list[str]]] = []
    names = dict.fromkeys(name for one in metrics for name in one["before"]["evaluation"])
    for name in names:
        if name != "loss":
            rows.append((name, [_pair(one, "evaluation", name) for one in metrics]))
    for title, field in (
        ("parameters", "parameters"),
        ("non-zero", "nonzero_parameters"),
        ("MACs", "macs"),
    ):
        rows.append(
            (
                title,
                [_ratio(one["before"][field], one["after"][field]) for one in metrics],
            )
        )
    for title, field in ((".keras bytes", "bytes"), ("compressed", "compressed_bytes")):
        rows.append(
            (
                title,
                [
                    _ratio(one["before"][field]["keras"], one["after"][field]["keras"])
                    for one in metrics
                ],
            )
        )
    for index, timing in enumerate(metrics[0]["before"]["latency"] if metrics else []):
        rows.append(
            (
                f"{timing['runtime']}, batch {timing['batch_size']}, ms",
                [_speed(one, index) for one in metrics],
            )
        )
    for title, cells in rows:
        table.add_row(title, *cells)
    return table


def _pair(metrics: Mapping[str, Any], field: str, name: str) -> str:
    before = metrics["before"][field].get(name)
    if before is None:
        return ""
    return f"{before['value']:.4f} → {metrics['after'][field][name]['value']:.4f}"


def _ratio(before: int, after: int) -> str:
    return f"{before:,} → {after:,} ({before / max(after, 1):.1f}x)"


def _speed(metrics: Mapping[str, Any], index: int) -> str:
    try:
        before = metrics["before"]["latency"][index]["p50_ms"]
        after = metrics["after"]["latency"][index]
    except IndexError:
        return ""
    return f"{before:.3g} → {after['p50_ms']:.3g} ({after['speed_up']:.2f}x)"
