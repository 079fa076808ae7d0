"""A sweep as a picture: its metric over what was varied, and over what is left of each size."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from app.domain.base import Record
from app.domain.metrics import MetricValue, State
from app.domain.pareto import Point, by_interest, on_front
from app.plots import Format, Theme
from app.plots.canvas import (
    COLOURS,
    MARKERS,
    SERIES,
    error_bars,
    label,
    legend,
    panels,
    written,
)

MOST_SERIES = 14
"""More lines than this cannot be told apart, and are not named."""


WORTH_A_PANEL = 1.02
"""Ratio of the largest to the smallest."""


class Compared(Record):
    """One model of a comparison."""

    varied: dict[str, Any]
    after: State


def draw(
    models: Sequence[Compared],
    before: State | None,
    *,
    title: str = "",
    kind: Format = "svg",
    theme: Theme = "light",
) -> bytes:
    """The picture of a comparison; without a model it says that there is none yet.

    Args:
        models: what succeeded.
        before: the original.
        title: above all panels.
        kind: of file.
        theme: colours.
    """
    over, name = _axis(models), _metric(models)
    fronts = _fronts(models) if name else []
    figure, axes = panels(1 + len(fronts), theme)
    if title:
        figure.suptitle(title, color=COLOURS[theme].ink, fontsize=12)
    if not models:
        axes[0].text(
            0.5,
            0.5,
            "no job has succeeded yet",
            ha="center",
            color=COLOURS[theme].ink,
            transform=axes[0].transAxes,
        )
    elif name is None:
        _sizes(axes[0], models, before, theme)
    else:
        if over:
            _curves(axes[0], models, before, over, name, theme)
        else:
            _dots(axes[0], models, before, name, theme)
        for panel, size in zip(axes[1:], fronts, strict=True):
            _front(panel, models, before, size, name, theme)
    return written(figure, kind)


def _metric(models: Sequence[Compared]) -> str | None:
    """The first metric that all models have."""
    for name in by_interest(models[0].after.evaluation) if models else ():
        if all(_value(model.after, name) is not None for model in models):
            return name
    return None


def _value(state: State, name: str) -> float | None:
    found = state.evaluation.get(name)
    return None if found is None else found.value


def _axis(models: Sequence[Compared]) -> str | None:
    """The one field with numbers of which there are at least three; the one with most of them."""
    values: dict[str, set[float]] = {}
    for model in models:
        for path, value in model.varied.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and path != "spec":
                values.setdefault(path, set()).add(float(value))
    most = max(values, key=lambda path: len(values[path]), default=None)
    return most if most is not None and len(values[most]) > 2 else None


def _series(models: Sequence[Compared], over: str | None) -> dict[str, list[Compared]]:
    found: dict[str, list[Compared]] = {}
    for model in models:
        found.setdefault(_title(model, over), []).append(model)
    return found


def _said(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        rest = [f"{name} {_said(other)}" for name, other in value.items() if name != "kind"]
        return " ".join([str(value["kind"]), *rest])
    return value if isinstance(value, str) else json.dumps(value)


def _curves(
    axes: Axes,
    models: Sequence[Compared],
    before: State | None,
    over: str,
    name: str,
    theme: Theme,
) -> None:
    named = _series(models, over)
    for place, (title, members) in enumerate(named.items()):
        members = sorted(members, key=lambda model: float(model.varied[over]))
        metrics = [model.after.evaluation[name] for model in members]
        axes.errorbar(
            [float(model.varied[over]) for model in members],
            [metric.value or 0.0 for metric in metrics],
            yerr=_errors(metrics),
            label=title if title and len(named) <= MOST_SERIES else None,
            color=SERIES[place % len(SERIES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            capsize=2,
        )
    _original(axes.axhline, before, name, theme)
    label(axes, f"{_words(name)} over {over}", over, _words(name), theme)
    legend(axes, theme)


def _dots(
    axes: Axes, models: Sequence[Compared], before: State | None, name: str, theme: Theme
) -> None:
    """One model below the other, in their order: nothing with numbers was varied."""
    metrics = [model.after.evaluation[name] for model in models]
    places = range(len(models), 0, -1)
    axes.errorbar(
        [metric.value or 0.0 for metric in metrics],
        places,
        xerr=_errors(metrics),
        color=SERIES[0],
        marker="o",
        markersize=5,
        linestyle="none",
        capsize=2,
    )
    axes.set_yticks(places, [_title(model) for model in models])
    _original(axes.axvline, before, name, theme)
    label(axes, f"{_words(name)} with its 95 % interval", _words(name), "", theme)
    legend(axes, theme)


def _title(model: Compared, without: str | None = None) -> str:
    """What sets a model apart, in words."""
    return ", ".join(_said(value) for path, value in model.varied.items() if path != without)


def _errors(metrics: Sequence[MetricValue]) -> list[list[float]]:
    """Lengths of the bars below and above."""
    return error_bars([one.value or 0.0 for one in metrics], [one.interval for one in metrics])


def _original(line: Callable[..., object], before: State | None, name: str, theme: Theme) -> None:
    """The original's metric, by `axhline` or `axvline`."""
    value = None if before is None else _value(before, name)
    if value is not None:
        line(value, color=COLOURS[theme].ink, linewidth=1, linestyle="--", label="original")


def _fronts(models: Sequence[Compared]) -> list[tuple[str, str]]:
    """The sizes that are worth a panel: both where zeros make parameters and MACs differ."""
    both = [("nonzero_parameters", "parameters that are not zero"), ("macs", "MACs")]
    return [each for each in both if _spread(models, each[0]) > WORTH_A_PANEL]


def _front(
    axes: Axes,
    models: Sequence[Compared],
    before: State | None,
    size: tuple[str, str],
    name: str,
    theme: Theme,
) -> None:
    """The metric over what is left of one size, and the front of these two."""
    field, words = size
    whole = before or models[0].after

    def place(model: Compared) -> tuple[float, float]:
        return _share(model.after, whole, field), _value(model.after, name) or 0.0

    at = [place(model) for model in models]
    best = on_front([Point(sizes=(x,), metric=name, value=y) for x, y in at])
    front = sorted(each for each, on_it in zip(at, best, strict=True) if on_it)
    axes.plot(
        [x for x, _ in front],
        [y for _, y in front],
        drawstyle="steps-post",
        linewidth=1.2,
        color=COLOURS[theme].ink,
        label="Pareto front",
    )
    named = _series(models, _axis(models))
    for number, (title, members) in enumerate(named.items()):
        places = [place(member) for member in members]
        axes.plot(
            [x for x, _ in places],
            [y for _, y in places],
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            color=SERIES[number % len(SERIES)],
            label=title if title and len(named) <= MOST_SERIES else None,
        )
    _original(axes.axhline, before, name, theme)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    label(axes, f"{_words(name)} over {words}", "share of the original", _words(name), theme)
    legend(axes, theme)


def _sizes(axes: Axes, models: Sequence[Compared], before: State | None, theme: Theme) -> None:
    """Without a metric: how much is left of MACs and of parameters."""
    whole = before or models[0].after
    axes.plot(
        [_share(model.after, whole, "nonzero_parameters") for model in models],
        [_share(model.after, whole, "macs") for model in models],
        linestyle="none",
        marker="o",
        color=SERIES[0],
    )
    label(axes, "MACs over parameters", "parameters left", "MACs left", theme)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))


def _spread(models: Sequence[Compared], field: str) -> float:
    sizes = [float(getattr(model.after, field)) or 1.0 for model in models]
    return max(sizes) / min(sizes) if sizes else 1.0


def _share(state: State, whole: State, field: str) -> float:
    total = float(getattr(whole, field))
    return float(getattr(state, field)) / total if total else 1.0


def _words(name: str) -> str:
    return name.replace("_", " ")
