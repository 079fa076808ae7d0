"""Bars and tables for people at a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from app.client import Job, Result, SecateurError
from app.client.progress import Bars
from app.domain.metrics import Metrics


def follow(jobs: Mapping[str, Job], console: Console) -> dict[str, Result | SecateurError]:
    """Show a bar for each job until all have ended.

    Args:
        jobs: by title.

    Returns:
        What they came to, by title.
    """
    ended: dict[str, Result | SecateurError] = {}
    with Bars(console) as bars:
        shown = {title: bars.bar(title) for title in jobs}
        for title, job in jobs.items():
            try:
                ended[title] = job.wait(progress=shown[title])
            except SecateurError as error:
                ended[title] = error
    return ended


def results(jobs: Mapping[str, Metrics]) -> Table:
    """A table before/after of succeeded jobs, one column each, by title."""
    table = Table(title="Before → after")
    table.add_column("")
    for title in jobs:
        table.add_column(title, justify="right", overflow="fold")
    every = list(jobs.values())
    names = dict.fromkeys(name for one in every for name in one.before.evaluation)
    for name in names:
        if name != "loss":
            table.add_row(name, *(_pair(one, name) for one in every))
    for title, field in (
        ("parameters", "parameters"),
        ("non-zero", "nonzero_parameters"),
        ("MACs", "macs"),
    ):
        pairs = ((getattr(one.before, field), getattr(one.after, field)) for one in every)
        table.add_row(title, *(_ratio(*pair) for pair in pairs))
    for title, field in ((".keras bytes", "bytes"), ("compressed", "compressed_bytes")):
        sizes = ((getattr(one.before, field), getattr(one.after, field)) for one in every)
        table.add_row(title, *(_ratio(b.get("keras", 0), a.get("keras", 0)) for b, a in sizes))
    for index, timing in enumerate(every[0].before.latency if every else ()):
        title = f"{timing.runtime}, batch {timing.batch_size}, ms"
        table.add_row(title, *(_speed(one, index) for one in every))
    return table


def _pair(metrics: Metrics, name: str) -> str:
    states = (metrics.before.evaluation.get(name), metrics.after.evaluation.get(name))
    values = [state.value if state is not None else None for state in states]
    if None in values:
        return ""
    return " → ".join(f"{value:.4f}" for value in values)


def _ratio(before: int, after: int) -> str:
    return f"{before:,} → {after:,} ({before / max(after, 1):.1f}x)"


def _speed(metrics: Metrics, index: int) -> str:
    try:
        before = metrics.before.latency[index].p50_ms
        after = metrics.after.latency[index]
    except IndexError:
        return ""
    gain = f" ({after.speed_up:.2f}x)" if after.speed_up is not None else ""
    return f"{before:.3g} → {after.p50_ms:.3g}{gain}"
