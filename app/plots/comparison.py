"""A sweep as a picture: its metric over what was varied, and its Pareto front."""

import json
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from app.domain.base import Record
from app.domain.metrics import MetricValue, State
from app.plots.canvas import (
    COLOURS,
    MARKERS,
    SERIES,
    Format,
    Theme,
    label,
    legend,
    panels,
    written,
)

MOST_SERIES = 14
"""More lines than this cannot be told apart, and are not named."""


class Compared(Record):
    """One model of a comparison."""

    varied: dict[str, Any]
    after: State
    pareto: bool


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
    over = _axis(models)
    name = _metric(models)
    figure, axes = panels(2 if over and name else 1, theme)
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
    if over and name:
        _curves(axes[0], models, before, over, name, theme)
    _front(axes[-1], models, before, name, theme)
    return written(figure, kind)


def _metric(models: Sequence[Compared]) -> str | None:
    """The first metric that all models have."""
    for name in models[0].after.evaluation if models else ():
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


def _series(models: Sequence[Compared], over: str) -> dict[str, list[Compared]]:
    found: dict[str, list[Compared]] = {}
    for model in models:
        rest = [_said(value) for path, value in model.varied.items() if path != over]
        found.setdefault(", ".join(rest), []).append(model)
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
    _original(axes, before, name, theme)
    label(axes, f"{_words(name)} over {over}", over, _words(name), theme)
    legend(axes, theme)


def _errors(metrics: Sequence[MetricValue]) -> list[list[float]]:
    """Lengths of the bars below and above; 0 where a metric has no interval."""
    below, above = [], []
    for metric in metrics:
        value = metric.value or 0.0
        low, high = metric.interval or (value, value)
        below.append(max(0.0, value - low))
        above.append(max(0.0, high - value))
    return [below, above]


def _original(axes: Axes, before: State | None, name: str, theme: Theme) -> None:
    value = None if before is None else _value(before, name)
    if value is not None:
        axes.axhline(value, color=COLOURS[theme].ink, linewidth=1, linestyle="--", label="original")


def _front(
    axes: Axes,
    models: Sequence[Compared],
    before: State | None,
    name: str | None,
    theme: Theme,
) -> None:
    """The metric over what is left; without a metric MACs over parameters."""
    whole = before or (models[0].after if models else None)
    # Zeros cost no parameters, and MACs all the same: what differs more is what is compared.
    field, words = max(
        (("nonzero_parameters", "parameters that are not zero"), ("macs", "MACs")),
        key=lambda each: _spread(models, each[0]),
    )

    def place(model: Compared) -> tuple[float, float]:
        x = _share(model.after, whole, field)
        y = _value(model.after, name) if name else _share(model.after, whole, "macs")
        return x, y or 0.0

    for front in (False, True):
        places = sorted(place(model) for model in models if model.pareto == front)
        if places:
            axes.plot(
                [x for x, _ in places],
                [y for _, y in places],
                linestyle="-" if front else "none",
                linewidth=1.2,
                marker="o",
                markersize=6 if front else 4,
                color=SERIES[0] if front else COLOURS[theme].quiet,
                label="nothing else is better in all" if front else "beaten by another",
            )
    if name:
        _original(axes, before, name, theme)
    if models:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    y = _words(name) if name else "MACs left"
    label(axes, "Pareto front", f"{words} left", y, theme)
    legend(axes, theme)


def _spread(models: Sequence[Compared], field: str) -> float:
    sizes = [float(getattr(model.after, field)) or 1.0 for model in models]
    return max(sizes) / min(sizes) if sizes else 1.0


def _share(state: State, whole: State | None, field: str) -> float:
    total = float(getattr(whole, field)) if whole else 0.0
    return float(getattr(state, field)) / total if total else 1.0


def _words(name: str) -> str:
    return name.replace("_", " ")
