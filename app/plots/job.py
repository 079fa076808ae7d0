"""A job's figures as pictures: what is left, how good, how fast, where, and how it came about."""

import math
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from app.domain.metrics import LayerFigure, Metrics, MetricValue, State
from app.domain.pareto import LOSS, LOWER_IS_BETTER, Point, by_interest, on_front
from app.plots import Format, Theme
from app.plots.canvas import COLOURS, SERIES, error_bars, inline, label, legend, panels, written

MOST_LAYERS = 40
"""Rows of a picture that can be read; the layers with most parameters are shown."""
MOST_LETTERS = 28
"""Of a name beside a row."""
BEFORE, AFTER = SERIES[6], SERIES[2]


class Panel(NamedTuple):
    """One picture of a job."""

    name: str
    """For file names and anchors."""
    title: str
    rows: Callable[[Metrics], int]
    """What there is to show of a job; 0 leaves the panel out."""
    draw: Callable[[Axes, Metrics, Theme], None]


def pictures(metrics: Metrics) -> dict[str, str]:
    """Inline SVG by name, in the order of a report, of what there is to show."""
    found = {}
    for panel in _wanted(metrics):
        figure, (axes,) = panels(1, "light", height=_height(panel.rows(metrics)))
        panel.draw(axes, metrics, "light")
        found[panel.name] = inline(figure, panel.title)
    return found


def overview(metrics: Metrics, *, kind: Format = "svg", theme: Theme = "light") -> bytes:
    """All pictures of a job as one file."""
    return written(drawn(metrics, theme), kind)


def drawn(metrics: Metrics, theme: Theme = "light") -> Figure:
    """All pictures of a job as one figure."""
    wanted = _wanted(metrics)
    tallest = max((_height(panel.rows(metrics)) for panel in wanted), default=4.4)
    figure, axes = panels(len(wanted), theme, columns=min(2, len(wanted)), height=tallest)
    for panel, each in zip(wanted, axes, strict=True):
        panel.draw(each, metrics, theme)
    return figure


def _wanted(metrics: Metrics) -> list[Panel]:
    return [panel for panel in PANELS if panel.rows(metrics)]


def _height(rows: int) -> float:
    """Inches; a row needs a fifth of one."""
    return max(3.6, 1.3 + 0.2 * min(rows, MOST_LAYERS))


# --- what is left ------------------------------------------------------------------------------
def _sizes(metrics: Metrics) -> list[tuple[str, float, float]]:
    before, after = metrics.before, metrics.after
    found = [
        ("parameters", before.parameters, after.parameters),
        ("parameters that are not zero", before.nonzero_parameters, after.nonzero_parameters),
        ("MACs", before.macs, after.macs),
    ]
    for name in after.bytes:
        found.append((f"bytes of {name}", before.bytes[name], after.bytes[name]))
    for name in after.compressed_bytes:
        sizes = before.compressed_bytes[name], after.compressed_bytes[name]
        found.append((f"bytes of {name}, compressed", *sizes))
    return [(name, float(old), float(new)) for name, old, new in found if old]


def _left(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """Each size's share of the original's."""
    rows = _sizes(metrics)
    places = range(len(rows), 0, -1)
    axes.barh(places, [new / old for _, old, new in rows], color=AFTER, height=0.6)
    for place, (_, old, new) in zip(places, rows, strict=True):
        times = f"{old / new:.3g}x less" if new else "none left"
        axes.annotate(
            times,
            (new / old, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=COLOURS[theme].ink,
        )
    axes.set_yticks(places, [name for name, _, _ in rows])
    axes.set_xlim(0, max(1.19, *(1.19 * new / old for _, old, new in rows)))
    axes.axvline(1.0, color=COLOURS[theme].ink, linewidth=1, linestyle="--")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    label(axes, "What is left", "share of the original", "", theme)


# --- how good ----------------------------------------------------------------------------------
def _main_metric(state: State) -> str | None:
    names = by_interest(state.evaluation)
    return names[0] if names else None


def _moments(metrics: Metrics) -> list[tuple[str, MetricValue]]:
    name = _main_metric(metrics.after)
    if name is None:
        return []
    states = (
        ("original", metrics.before),
        ("after the last cut", metrics.pruned),
        ("at the end", metrics.after),
    )
    found = [(title, state.evaluation.get(name)) for title, state in states]
    found += [(f"{export} file", of.get(name)) for export, of in metrics.after.exported.items()]
    return [(title, one) for title, one in found if one is not None and one.value is not None]


def _quality(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """The first metric at each moment."""
    rows = _moments(metrics)
    values = [one.value or 0.0 for _, one in rows]
    places = range(len(rows), 0, -1)
    axes.errorbar(
        values,
        places,
        xerr=error_bars(values, [one.interval for _, one in rows]),
        color=SERIES[0],
        marker="o",
        linestyle="none",
        capsize=3,
    )
    axes.set_yticks(places, [title for title, _ in rows])
    axes.set_ylim(0.5, len(rows) + 0.5)
    axes.axvline(values[0], color=COLOURS[theme].ink, linewidth=1, linestyle="--")
    name = (_main_metric(metrics.after) or "").replace("_", " ")
    below = f"{name} on {rows[0][1].samples:,} held-out samples"
    label(axes, f"{name.capitalize()}, with its 95 % interval", below, "", theme)


# --- how fast ----------------------------------------------------------------------------------
def _speed(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """Speed-ups with their intervals; left of 1 the pruned model is slower."""
    rows = metrics.after.latency
    values = [one.speed_up or 0.0 for one in rows]
    places = range(len(rows), 0, -1)
    axes.errorbar(
        values,
        places,
        xerr=error_bars(values, [one.speed_up_interval for one in rows]),
        color=SERIES[1],
        marker="D",
        linestyle="none",
        capsize=3,
    )
    named = []
    for old, new in zip(metrics.before.latency, rows, strict=True):
        threads = "1 thread" if new.threads == 1 else f"{new.threads} threads"
        named.append(
            f"{new.runtime}, batch {new.batch_size}, {threads}\n"
            f"{old.p50_ms:.3g} → {new.p50_ms:.3g} ms"
        )
    axes.set_yticks(places, named, fontsize=8)
    axes.set_ylim(0.5, len(rows) + 0.5)
    axes.axvline(1.0, color=COLOURS[theme].ink, linewidth=1, linestyle="--")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda times, _: f"{times:g}x"))
    label(axes, "Speed-up, with its 95 % interval", "times faster", "", theme)


# --- where -------------------------------------------------------------------------------------
def _layers(metrics: Metrics) -> list[LayerFigure]:
    """Those with parameters, the largest ones, in the model's order."""
    own = [one for one in metrics.per_layer if one.parameters_before]
    largest = sorted(own, key=lambda one: -one.parameters_before)[:MOST_LAYERS]
    kept = {one.name for one in largest}
    return [one for one in own if one.name in kept]


def _by_layer(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """What is left of each layer's parameters and MACs."""
    rows = _layers(metrics)
    places = range(len(rows), 0, -1)
    left = [one.nonzero_after / one.parameters_before for one in rows]
    axes.barh(places, left, color=AFTER, height=0.6, label="parameters that are not zero")
    with_macs = [(at, one) for at, one in zip(places, rows, strict=True) if one.macs_before]
    axes.plot(
        [one.macs_after / one.macs_before for _, one in with_macs],
        [at for at, _ in with_macs],
        linestyle="none",
        marker="D",
        markersize=5,
        color=SERIES[1],
        label="MACs",
    )
    axes.set_yticks(places, [_shortened(one.name) for one in rows], fontsize=8)
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    hidden = sum(bool(one.parameters_before) for one in metrics.per_layer) - len(rows)
    title = "What is left of each layer" + (f" ({hidden} small ones not shown)" if hidden else "")
    label(axes, title, "share of the layer", "", theme)
    legend(axes, theme)


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"…{name[-MOST_LETTERS + 1 :]}"


# --- how it came about -------------------------------------------------------------------------
def _curves(metrics: Metrics, name: str) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) of a logged number, in training and on validation samples."""
    found = {}
    for title, key in (("training", name), ("validation", f"val_{name}")):
        points = [(one.epoch, one.logs.get(key)) for one in metrics.history]
        known = [(epoch, value) for epoch, value in points if value is not None]
        if len(known) > 1:
            found[title] = known
    return found


def _trained_metric(metrics: Metrics) -> str | None:
    """What was logged beside the loss, of a model with one output."""
    names = metrics.history[0].logs if metrics.history else {}
    return next((name for name in names if name != LOSS and f"val_{name}" in names), None)


def _training(name: str, axes: Axes, metrics: Metrics, theme: Theme) -> None:
    for place, (title, points) in enumerate(_curves(metrics, name).items()):
        axes.plot(
            [epoch for epoch, _ in points],
            [value for _, value in points],
            color=SERIES[place],
            linewidth=1.4,
            marker="o" if len(points) < 40 else None,
            markersize=3,
            label=title,
        )
    steps = [one.step for one in metrics.history]
    cuts = [place for place in range(1, len(steps)) if steps[place] != steps[place - 1]]
    for number, place in enumerate(cuts):
        axes.axvline(
            metrics.history[place].epoch - 0.5,
            color=COLOURS[theme].quiet,
            linewidth=1,
            linestyle=":",
            label=None if number else "cut",
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    words = name.replace("_", " ")
    label(axes, f"{words.capitalize()} in training", "epoch", words, theme)
    legend(axes, theme)


def _loss(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    _training(LOSS, axes, metrics, theme)


def _metric(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    _training(_trained_metric(metrics) or LOSS, axes, metrics, theme)


# --- what was tried ----------------------------------------------------------------------------
def _trials(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """What each candidate cost, over what it kept; for accuracy_drop with the Pareto front."""
    target = metrics.target
    assert target is not None
    rows = sorted(target.trials, key=lambda trial: trial.keep)
    values = [trial.value for trial in rows]
    axes.errorbar(
        [trial.keep for trial in rows],
        values,
        yerr=error_bars(values, [trial.interval for trial in rows]),
        color=SERIES[0],
        marker="o",
        linestyle="none",
        capsize=3,
        label="candidates",
    )
    words = target.unit
    if target.kind == "accuracy_drop":
        words = "points of accuracy lost, on validation samples"
        # What is lost is a size here: less is better.
        best = on_front([Point(sizes=(trial.keep, trial.value)) for trial in rows])
        front = [trial for trial, on_it in zip(rows, best, strict=True) if on_it]
        axes.plot(
            [trial.keep for trial in front],
            [trial.value for trial in front],
            drawstyle="steps-post",
            color=COLOURS[theme].ink,
            linewidth=1.2,
            label="Pareto front",
        )
    axes.axhline(target.asked, color=SERIES[1], linewidth=1, linestyle="--", label="asked: at most")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    label(axes, "What was tried", "share that is kept", words, theme)
    legend(axes, theme)


# --- what each layer bears ---------------------------------------------------------------------
def _heat(axes: Axes, metrics: Metrics, theme: Theme) -> None:
    """The metric without each share of each layer; empty where that much cannot go."""
    found = metrics.sensitivity
    assert found is not None
    rows = [[math.nan if v is None else v for v in one.values] for one in found.layers]
    # More of a loss is worse, more of all else is better: dark is always bad.
    falls = found.metric in LOWER_IS_BETTER
    axes.imshow(rows, aspect="auto", cmap="viridis_r" if falls else "viridis")
    axes.grid(visible=False)
    axes.set_xticks(range(len(found.shares)), [f"{share:.0%}" for share in found.shares])
    names = [_shortened(" + ".join(one.layers)) for one in found.layers]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    known = [value for row in rows for value in row if not math.isnan(value)]
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            if math.isnan(value):
                continue
            place = (value - min(known)) / ((max(known) - min(known)) or 1.0)
            good = 1.0 - place if falls else place
            axes.text(
                *(column, row, f"{value:.3g}"),
                ha="center",
                va="center",
                fontsize=8,
                color="#000000" if good > 0.6 else "#ffffff",
            )
    whole = "" if found.whole is None else f" (whole: {found.whole:.3g})"
    words = found.metric.replace("_", " ")
    label(axes, f"{words.capitalize()} without a share of one layer{whole}", "removed", "", theme)


PANELS = (
    Panel("left", "What is left of each size", lambda m: 2 * len(_sizes(m)), _left),
    Panel("quality", "The metric at each moment", lambda m: len(_moments(m)), _quality),
    Panel("speed", "Speed-up by runtime", lambda m: 3 * len(m.after.latency), _speed),
    Panel("layers", "What is left of each layer", lambda m: len(_layers(m)), _by_layer),
    Panel(
        "sensitivity",
        "The metric without shares of single layers",
        lambda m: len(m.sensitivity.layers) if m.sensitivity else 0,
        _heat,
    ),
    Panel(
        "trials",
        "What was tried for the target",
        lambda m: len(m.target.trials) if m.target else 0,
        _trials,
    ),
    Panel("loss", "Loss in training", lambda m: len(_curves(m, LOSS)), _loss),
    Panel(
        "metric",
        "Metric in training",
        lambda m: len(_curves(m, _trained_metric(m) or "")),
        _metric,
    ),
)
"""In the order of a report."""
