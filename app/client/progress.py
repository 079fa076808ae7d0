"""Progress of jobs, sweeps and uploads: a bar in terminals and notebooks, nothing elsewhere."""

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from app.client.resources import JobState, Sent, SweepState
from app.domain.job import Progress as Place
from app.domain.job import Status

Show = Callable[[Any], None]
"""Is handed each `JobState`, `SweepState` or `Sent` that was seen."""
NARROW = 80
"""Columns below which a bar makes room for words."""
SHOWN_METRICS = ("loss", "accuracy", "val_accuracy")


def share(seen: Any) -> float:
    """How much is done, from 0 to 1."""
    if isinstance(seen, Sent):
        return seen.sent / max(seen.total, 1)
    if isinstance(seen, SweepState):
        return 1.0 if seen.done else seen.share
    if seen.status is Status.SUCCEEDED:
        return 1.0
    return float(seen.progress.share) if seen.progress else 0.0


def doing(seen: Any) -> str:
    """What goes on, in a few words."""
    if isinstance(seen, Sent):
        return f"{decimal(seen.sent)} of {decimal(seen.total)}"
    if isinstance(seen, SweepState):
        return ", ".join(f"{count} {status}" for status, count in seen.counts.items() if count)
    assert isinstance(seen, JobState)
    if seen.status is Status.QUEUED and not seen.done:
        return seen.waiting_reason or f"queued, {seen.queue_position or 0} ahead"
    if seen.done or seen.progress is None:
        return str(seen.status)
    return _place(seen.progress)


def _place(progress: Place) -> str:
    text = progress.phase
    if progress.eta_seconds is not None:
        text += f", {progress.eta_seconds:.0f} s left"
    if progress.epoch:
        text += f", epoch {progress.epoch} of {progress.epochs}"
    for name in SHOWN_METRICS:
        value = progress.metrics.get(name)
        if value is not None:
            text += f", {name} {value:.4f}"
    return text


class Bars(Progress):
    """Bars on a terminal; what has no room beside them is cut off."""

    def __init__(self, console: Console) -> None:
        narrow = console.width < NARROW
        cut = Column(no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=6 if narrow else 20),
            TextColumn("{task.percentage:>3.0f} %"),
            *([] if narrow else [TimeElapsedColumn()]),
            TextColumn("{task.fields[doing]}", markup=False, table_column=cut),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )

    def bar(self, title: str) -> Show:
        """A new bar; each call of what this gives moves it."""
        task = self.add_task(title, total=1.0, doing="")

        def show(seen: Any) -> None:
            self.update(task, completed=share(seen), doing=doing(seen))
            if getattr(seen, "done", False):
                self.stop_task(task)

        return show


class NotebookBar:
    """A bar in a notebook's output; plain HTML, so that no widgets need to be installed."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._handle: Any = None

    def show(self, seen: Any) -> None:
        """Draw it, or draw it anew."""
        display = import_module("IPython.display")
        picture = display.HTML(
            f'{html.escape(self._title)} <progress value="{share(seen):.3f}"></progress> '
            f"{share(seen):.0%} {html.escape(doing(seen))}"
        )
        if self._handle is None:
            self._handle = display.display(picture, display_id=True)
        else:
            self._handle.update(picture)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def shown(title: str, progress: bool | Show) -> Iterator[Show]:
    """What a `progress` argument asks for: a function to hand what was seen to.

    Args:
        title: in front of the bar.
        progress: True for a bar where there is a terminal or a notebook, False for none, or a
            function of one's own.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _: None
    elif in_notebook():
        yield NotebookBar(title).show
    else:
        with Bars(Console(stderr=True)) as bars:
            yield bars.bar(title)
