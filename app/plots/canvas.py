"""How all pictures look, and how they become files."""

import html
import io
import re
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.plots import Format, Theme

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
"""Told apart by people with any colour vision, on white and on black. [Okabe & Ito 2008]"""
MARKERS = "osD^vPX"

mpl.rcParams["svg.fonttype"] = "none"  # Text stays text: it can be searched and read out.
mpl.rcParams["text.parse_math"] = False  # Names that users give may hold a $.
mpl.rcParams["svg.hashsalt"] = "secateur"  # The same figures give the same file.
_WRITING = threading.Lock()
"""matplotlib's caches of fonts and text are not made for threads."""


class Colours(NamedTuple):
    """Of a theme."""

    paper: str
    ink: str
    quiet: str


COLOURS: dict[Theme, Colours] = {
    "light": Colours("#ffffff", "#1b1f24", "#c9ced6"),
    "dark": Colours("#14181d", "#e6e9ee", "#4a525e"),
}


class Picture(Figure):
    """A figure that notebooks show by itself, with pyplot or without."""

    def _repr_png_(self) -> bytes:
        return written(self, "png")


def panels(
    count: int, theme: Theme, *, columns: int | None = None, height: float = 4.4
) -> tuple[Figure, list[Axes]]:
    """A figure with this many panels side by side, or in rows of so many columns.

    Args:
        height: of a row, in inches.
    """
    colours = COLOURS[theme]
    columns = columns or count
    rows = -(-count // columns)
    size = (6.4 * columns, height * rows)
    figure = Picture(figsize=size, layout="constrained", facecolor=colours.paper)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for each in axes:
        each.set_facecolor(colours.paper)
        each.set_axisbelow(True)
        each.grid(color=colours.quiet, linewidth=0.5, alpha=0.6)
        each.tick_params(colors=colours.ink, which="both")
        for name, spine in each.spines.items():
            spine.set_color(colours.quiet)
            spine.set_visible(name in ("left", "bottom"))
    return figure, axes


def label(axes: Axes, title: str, x: str, y: str, theme: Theme) -> None:
    """Words around a panel."""
    ink = COLOURS[theme].ink
    axes.set_title(title, color=ink, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=ink)
    axes.set_ylabel(y, color=ink)


def legend(axes: Axes, theme: Theme) -> None:
    """Names of what is drawn, where there is something to name."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(frameon=False, fontsize=8, labelcolor=COLOURS[theme].ink)


def error_bars(
    values: Sequence[float], intervals: Sequence[tuple[float, float] | None]
) -> list[list[float]]:
    """Lengths of error bars below and above; 0 where there is no interval."""
    whole = [one or (value, value) for value, one in zip(values, intervals, strict=True)]
    return [
        [max(0.0, value - low) for value, (low, _) in zip(values, whole, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, whole, strict=True)],
    ]


def inline(figure: Figure, name: str) -> str:
    """An `<svg>` element for a page that says `--ink`, `--quiet` and, for what lies under, nothing.

    Args:
        name: what is to be seen, for those who cannot.
    """
    light = COLOURS["light"]
    text = written(figure, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Only what is referred to needs a name, and a page has many pictures.
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda it: it[0] if it[1] in used else "", text)
    for colour, variable in (
        (light.paper, "none"),
        (light.ink, "var(--ink)"),
        (light.quiet, "var(--quiet)"),
    ):
        text = text.replace(f": {colour}", f": {variable}")
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text)
    if size is not None:
        text = text.replace(size[0], f'style="max-width: {float(size[1]) * 4 / 3:.0f}px"', 1)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(name)}"', 1)


def written(figure: Figure, kind: Format) -> bytes:
    """A figure as a file's bytes; the same figure gives the same bytes."""
    file = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with _WRITING:
        figure.savefig(file, format=kind, dpi=144, metadata=metadata)
    return file.getvalue()
