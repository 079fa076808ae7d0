"""The pictures of a job say what its figures say."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from app.domain.metrics import Metrics
from app.plots import Theme
from app.plots.canvas import COLOURS
from app.plots.job import MOST_LAYERS, overview, pictures

SVG = "{http://www.w3.org/2000/svg}"


def state(parameters: int, accuracy: float | None, ms: float, speed: Any = None) -> dict[str, Any]:
    evaluation = {}
    if accuracy is not None:
        interval = [accuracy - 0.01, accuracy + 0.01]
        evaluation["accuracy"] = {"value": accuracy, "interval": interval, "samples": 1000}
    times = {"p50_ms": ms, "p95_ms": 2 * ms, "repeats": 50}
    times |= {"speed_up": speed, "speed_up_interval": speed and [speed - 0.1, speed + 0.1]}
    return {
        "parameters": parameters,
        "nonzero_parameters": parameters // 2,
        "macs": parameters,
        "bytes": {"keras": 4 * parameters},
        "compressed_bytes": {"keras": 3 * parameters},
        "evaluation": evaluation,
        "latency": [{"runtime": "litert", "batch_size": 1, "threads": 1} | times],
    }


def layer(number: int) -> dict[str, Any]:
    sizes = {"parameters_before": 100 + number, "parameters_after": 50, "nonzero_after": 25}
    return {"name": f"l{number}", "class": "Dense", "macs_before": 100, "macs_after": 50} | sizes


def epoch(number: int, step: int) -> dict[str, Any]:
    logs = {"loss": 1 / number, "val_loss": 2 / number, "accuracy": 0.5, "val_accuracy": 0.4}
    return {"epoch": number, "step": step, "seconds": 1.0, "logs": logs}


def metrics(accuracy: float | None = 0.9, layers: int = 2, **more: Any) -> Metrics:
    after = state(500, accuracy, 1.0, 1.9)
    body = {
        "before": state(1000, accuracy and accuracy + 0.05, 2.0),
        "pruned": state(500, accuracy and accuracy - 0.2, 1.0),
        "after": after,
        "equality": None,
        "per_layer": [layer(number) for number in range(layers)],
        "history": [epoch(1, 0), epoch(2, 1), epoch(3, 1)],
        "target": None,
        "phases_seconds": {},
        "verdict": [],
        "notes": [],
        "accuracy_measured": accuracy is not None,
        "loss": None,
        "peak_memory_bytes": 1,
        "seed": 0,
        "versions": {},
        "device": "d",
    }
    return Metrics.model_validate(body | more)


TRIALS = {
    "kind": "accuracy_drop",
    "asked": 1.0,
    "achieved": 0.5,
    "unit": "points of accuracy lost",
    "met": True,
    "within": True,
    "trials": [
        {"keep": keep, "parameters": 1, "macs": 1, "value": lost, "interval": [lost - 1, lost + 1]}
        for keep, lost in ((0.5, 0.5), (0.25, 0.4), (0.1, 3.0))
    ],
}


SENSITIVITY = {
    "metric": "accuracy",
    "whole": 0.97,
    "shares": [0.25, 0.5],
    "samples": 100,
    "layers": [
        {"layers": ["a"], "values": [0.95, 0.3]},
        {"layers": ["b", "c"], "values": [0.9, None]},
    ],
}


def texts(picture: str | bytes) -> list[str]:
    found = ElementTree.fromstring(picture).iter(f"{SVG}text")
    return ["".join(each.itertext()) for each in found]


def test_each_picture_shows_its_figures() -> None:
    whole = metrics(target=TRIALS, sensitivity=SENSITIVITY)
    found = {name: texts(svg) for name, svg in pictures(whole).items()}
    names = ["left", "quality", "speed", "layers", "sensitivity", "trials", "loss", "metric"]
    assert list(found) == names
    assert {"a", "b + c", "0.95", "0.3", "0.9", "25%"} <= set(found["sensitivity"])
    assert "Accuracy without a share of one layer (whole: 0.97)" in found["sensitivity"]
    assert {"2x less", "bytes of keras, compressed"} <= set(found["left"])
    assert {"original", "after the last cut", "at the end"} <= set(found["quality"])
    assert "accuracy on 1,000 held-out samples" in found["quality"]
    assert any("litert, batch 1, 1 thread" in text for text in found["speed"])
    assert any("2 → 1 ms" in text for text in found["speed"])
    assert {"l0", "l1", "MACs"} <= set(found["layers"])
    assert {"candidates", "Pareto front", "asked: at most"} <= set(found["trials"])
    assert {"training", "validation", "cut"} <= set(found["loss"])
    assert "Accuracy in training" in found["metric"]


def test_what_there_is_not_is_left_out() -> None:
    bare = metrics(accuracy=None, history=[])
    for name in ("before", "after"):
        bare = bare.model_copy(
            update={name: getattr(bare, name).model_copy(update={"latency": ()})}
        )
    assert list(pictures(bare)) == ["left", "layers"]
    assert overview(bare).startswith(b"<?xml")


def test_small_layers_give_way_where_there_are_too_many() -> None:
    said = texts(pictures(metrics(layers=MOST_LAYERS + 7))["layers"])
    assert "What is left of each layer (7 small ones not shown)" in said
    assert "l6" not in said
    assert f"l{MOST_LAYERS + 6}" in said


def test_a_page_may_hold_them_all_and_colours_them() -> None:
    """Only what is referred to has a name, and ink comes from the page."""
    found = pictures(metrics(target=TRIALS))
    light = COLOURS["light"]
    for svg in found.values():
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "var(--ink)" in svg
        assert light.ink not in svg
        assert light.paper not in svg
        used = set(re.findall(r"#([\w.-]+)", svg))
        assert {each.get("id") for each in root.iter() if each.get("id")} <= used


def test_names_are_text_whatever_they_hold() -> None:
    hostile = layer(0) | {"name": "<b>&$x$"}
    svg = pictures(metrics(per_layer=[hostile]))["layers"]
    assert "<b>&$x$" in texts(svg)
    assert "<b>" not in svg


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_in_one_file(theme: Theme) -> None:
    whole = overview(metrics(target=TRIALS), theme=theme)
    assert COLOURS[theme].paper.encode() in whole
    assert {"What is left", "What was tried", "Loss in training"} <= set(texts(whole))
    assert overview(metrics(target=TRIALS), kind="png", theme=theme).startswith(b"\x89PNG")


def test_the_same_figures_give_the_same_file() -> None:
    assert overview(metrics()) == overview(metrics())
