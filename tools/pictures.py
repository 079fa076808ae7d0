"""Draws docs/pictures with the engine itself: `python -m tools.pictures`.

The pictures follow a reader's light or dark scheme by a media query inside the SVG.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from app.domain.prune import Prune
from app.domain.spec import IterativeSchedule, OneShotSchedule, PolynomialSchedule
from app.plots.canvas import COLOURS, SERIES, label, legend, panels, written
from workers import engine

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "pictures"
EXAMPLES = ROOT / "app" / "examples"
LIGHT, DARK = COLOURS["light"], COLOURS["dark"]
STAYS, GOES = SERIES[0], SERIES[1]

mpl.rcParams["font.sans-serif"] = ["system-ui", "DejaVu Sans"]


def granularities() -> Figure:
    """What goes of one kernel of 12 inputs by 16 outputs, for five granularities."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(4, name="out"),
        ]
    )
    asked: dict[str, dict[str, Any]] = {
        "weight: 50 % of the weights": {"granularity": "weight"},
        "n_m: 2 of every 4 stay": {"granularity": "n_m"},
        "block: 50 % of 4x4 blocks": {"granularity": "block"},
        "unit, channel: 50 % of the columns": {"granularity": "unit"},
    }
    figure, axes = panels(5, "light", columns=3)
    figure.set_size_inches(10, 5.4)
    kernel = model.get_layer("hidden").kernel.numpy()
    _draw_kernel(axes[0], kernel, np.ones(kernel.shape, bool), "before: 12 inputs, 16 units")
    for place, (title, prune) in zip(axes[1:], asked.items(), strict=True):
        if prune["granularity"] != "n_m":
            prune["target"] = {"kind": "fraction", "remove": 0.5}
        _draw_kernel(place, kernel, _stays(model, prune), title)
    return figure


def _stays(model: Any, prune: dict[str, Any]) -> Any:
    """True where an entry of the kernel `hidden` stays; removed columns stay nowhere."""
    cut = engine.choose(model, Prune.model_validate(prune), seed=0)
    kernel = model.get_layer("hidden").kernel
    if isinstance(cut, engine.UnitCut):
        stays = np.ones(kernel.shape, bool)
        stays[:, cut.removed["hidden"]] = False
        return stays
    return next(mask for key, mask in cut.masks.items() if key.startswith("hidden"))


def _draw_kernel(axes: Axes, kernel: Any, stays: Any, title: str) -> None:
    shades = np.abs(kernel) / np.abs(kernel).max()
    shown = np.ma.masked_where(~stays, 0.25 + 0.75 * shades)
    colours = mpl.colors.LinearSegmentedColormap.from_list("ink", ["#d6e6f2", STAYS])
    axes.imshow(shown, cmap=colours, vmin=0, vmax=1, interpolation="none", aspect="equal")
    label(axes, title, "", "", "light")
    axes.set_title(title, fontsize=10, loc="left", color=LIGHT.ink)
    axes.set_xticks(np.arange(-0.5, kernel.shape[1]), [])
    axes.set_yticks(np.arange(-0.5, kernel.shape[0]), [])
    axes.tick_params(length=0)
    axes.grid(color=LIGHT.quiet, linewidth=0.8)
    axes.set_axisbelow(False)


def criteria() -> Figure:
    """Which half of 64 units goes, by criterion; units in order of their norm."""
    model = keras.saving.load_model(EXAMPLES / "digits.keras", compile=False)
    with np.load(EXAMPLES / "digits.npz") as data:
        x = data["x_train"].astype(np.float32) / 16.0
    evidence = engine.observe(model, [[x]])
    names = ("magnitude", "l1", "geometric_median", "activation", "apoz", "random")
    order = np.argsort(np.linalg.norm(model.get_layer("hidden_2").kernel.numpy(), axis=0))
    goes = []
    for name in names:
        prune = {
            "granularity": "unit",
            "criterion": name,
            "target": {"kind": "fraction", "remove": 0.5},
        }
        cut = engine.choose(model, Prune.model_validate(prune), seed=0, evidence=evidence)
        assert isinstance(cut, engine.UnitCut)
        goes.append(np.isin(order, cut.removed["hidden_2"]))
    figure, (axes,) = panels(1, "light", height=2.6)
    figure.set_size_inches(9, 2.6)
    axes.imshow(
        np.array(goes), cmap=ListedColormap([STAYS, GOES]), interpolation="none", aspect="auto"
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([0, 31.5, 63], ["smallest norm", "", "largest norm"])
    axes.grid(False)
    label(axes, "64 units: orange ones go", "", "", "light")
    return figure


def scopes() -> Figure:
    """How much of each layer stays when a small convolutional network loses half its MACs."""
    model = _trained()
    names = ("layer", "global", "isomorphic", "latency")
    figure, (axes,) = panels(1, "light", height=3.4)
    figure.set_size_inches(9, 3.4)
    layers: list[str] = []
    for place, scope in enumerate(names):
        prune = {
            "granularity": "channel",
            "scope": scope,
            "target": {"kind": "macs", "keep": 0.5},
        }
        cut = engine.choose(model, Prune.model_validate(prune), seed=0)
        found = {one.name: one for one in cut.summary if one.before}
        layers = layers or [name for name, one in found.items() if one.prunable]
        stays = [1 - found[name].removed / found[name].before for name in layers]
        spots = np.arange(len(layers)) + (place - 1.5) * 0.2
        axes.bar(spots, stays, 0.18, color=SERIES[place], label=scope)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    label(axes, "Channels that stay in each layer, at half the MACs", "", "", "light")
    legend(axes, "light")
    axes.get_legend().set_ncols(4)
    return figure


def _trained() -> Any:
    """A small convolutional network, trained on the example's digits for a few seconds."""
    keras.utils.set_random_seed(0)
    with np.load(EXAMPLES / "digits.npz") as data:
        x, y = data["x_train"].reshape(-1, 8, 8, 1) / 16.0, data["y_train"]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_2"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, activation="relu", name="conv_3"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, y, epochs=6, verbose=0)
    return model


def schedules() -> Figure:
    """Which share of the target is gone, step by step."""
    figure, (axes,) = panels(1, "light", height=3.2)
    figure.set_size_inches(9, 3.2)
    steps = 6
    for place, (name, schedule) in enumerate(
        {
            "one_shot": OneShotSchedule(),
            "iterative": IterativeSchedule(steps=steps),
            "polynomial": PolynomialSchedule(steps=steps),
        }.items()
    ):
        gone = [0.0, *engine.shares(schedule)]
        gone += [gone[-1]] * (steps + 2 - len(gone))
        axes.step(range(len(gone)), gone, where="post", color=SERIES[place], lw=2.5, label=name)
    axes.set_yticks([0, 0.5, 1], ["0", "half", "all"])
    axes.set_xlim(0, steps + 1)
    label(axes, "Share of the target that is gone", "cuts, with training after each", "", "light")
    legend(axes, "light")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "granularities": granularities,
    "criteria": criteria,
    "scopes": scopes,
    "schedules": schedules,
}


def svg(figure: Figure) -> str:
    """The figure as a file whose paper and ink follow the reader's colour scheme."""
    text = written(figure, "svg").decode()
    rules = [
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in zip(LIGHT, DARK, strict=True)
        for kind in ("fill", "stroke")
    ]
    style = f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    return text.replace("<defs>", f"{style}<defs>", 1)


def main(out: Path = OUT) -> None:
    """Write all pictures."""
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (out / f"{name}.svg").write_text(svg(draw()), encoding="utf-8")
        print(out / f"{name}.svg")


if __name__ == "__main__":
    sys.exit(main())
