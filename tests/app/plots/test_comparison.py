"""The picture of a sweep says what its figures say."""

from typing import Any
from xml.etree import ElementTree

import pytest

from app.domain.metrics import MetricValue, State
from app.plots import Theme
from app.plots.canvas import COLOURS, SERIES
from app.plots.comparison import Compared, draw

SVG = "{http://www.w3.org/2000/svg}"


def state(nonzero: int, macs: int, accuracy: float | None) -> State:
    evaluation = {"loss": MetricValue(value=1.0, samples=100)} if accuracy else {}
    if accuracy is not None:
        interval = (accuracy - 0.02, min(1.0, accuracy + 0.02))
        evaluation["accuracy"] = MetricValue(value=accuracy, interval=interval, samples=100)
    return State(parameters=100, nonzero_parameters=nonzero, macs=macs, evaluation=evaluation)


def model(varied: dict[str, Any], *figures: Any) -> Compared:
    return Compared(varied=varied, after=state(*figures))


CURVE = [
    model({"prune.granularity": kind, "remove": share}, int(100 - 100 * share), 50, 1 - share / 2)
    for kind in ("weight", "unit")
    for share in (0.9, 0.1, 0.5)
]
BEFORE = state(100, 100, 0.95)


def texts(picture: bytes) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def lines(picture: bytes, colour: str) -> list[str]:
    """Paths drawn as lines in a colour."""
    found = ElementTree.fromstring(picture).iter(f"{SVG}path")
    return [
        path.get("d", "")
        for path in found
        if f"stroke: {colour}" in path.get("style", "") and "fill: none" in path.get("style", "")
    ]


def test_a_line_for_each_combination_of_the_others() -> None:
    said = texts(draw(CURVE, BEFORE))
    assert {"weight", "unit", "original", "Pareto front", "accuracy over remove"} <= set(said)
    assert said.count("accuracy") == 2  # Of both panels' axes.


def test_a_line_goes_from_left_to_right() -> None:
    # Its members came in another order. A path in SVG is "M x y L x y …".
    (path,) = [path for path in lines(draw(CURVE, BEFORE), SERIES[1]) if path.count("L") == 2]
    xs = [float(point.split()[0]) for point in path.replace("M", "").split("L")]
    assert xs == sorted(xs)
    assert len(xs) == 3


def test_the_same_figures_give_the_same_file() -> None:
    assert draw(CURVE, BEFORE) == draw(CURVE, BEFORE)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes(theme: Theme) -> None:
    assert f"fill: {COLOURS[theme].paper}" in draw(CURVE, BEFORE, theme=theme).decode()


def test_png() -> None:
    assert draw(CURVE, BEFORE, kind="png").startswith(b"\x89PNG\r\n")


def test_nothing_yet() -> None:
    assert "no job has succeeded yet" in texts(draw([], None))


def test_without_a_metric_sizes_are_compared() -> None:
    models = [model({"remove": 0.1 * n}, 100 - n, 100 - n, None) for n in range(1, 5)]
    said = texts(draw(models, state(100, 100, None)))
    assert "MACs left" in said
    assert "accuracy" not in said


def test_fields_without_numbers_leave_the_front() -> None:
    models = [
        model({"prune.criterion": name}, size, 50, 0.9)
        for name, size in (("taylor", 40), ("l1", 60), ("random", 90))
    ]
    said = texts(draw(models, BEFORE))
    assert {"Pareto front", "taylor", "random", "accuracy with its 95 % interval"} <= set(said)
    assert "accuracy over parameters that are not zero" in said
    assert not [text for text in said if "over prune" in text]


def test_models_of_one_size_have_no_front() -> None:
    models = [
        model({"prune.criterion": name}, size, 50, 0.9)
        for name, size in (("taylor", 5000), ("random", 4999))
    ]
    said = texts(draw(models, BEFORE))
    assert {"taylor", "random", "accuracy with its 95 % interval", "original"} <= set(said)
    assert "Pareto front" not in said


def test_the_front_leaves_out_what_is_beaten() -> None:
    def model_(share: float, accuracy: float) -> Compared:
        return model({"remove": share}, round(100 * share), 50, accuracy)

    good = [model_(0.2, 0.5), model_(0.5, 0.8), model_(0.9, 0.9)]
    ink = COLOURS["light"].ink
    alone, with_beaten = (
        [line for line in lines(draw(models, None), ink) if line.count("L") > 1]
        for models in (good, [*good, model_(0.7, 0.6)])
    )
    assert alone
    assert with_beaten == alone


def test_macs_have_a_panel_where_they_differ() -> None:
    models = [model({"remove": n}, 100 - n, 100 - n, 1 - n / 200) for n in (10, 20, 30)]
    assert "accuracy over MACs" in texts(draw(models, BEFORE))
    assert "accuracy over MACs" not in texts(draw(CURVE, BEFORE))


def test_text_of_users_is_text() -> None:
    said = texts(draw(CURVE, BEFORE, title="<b>$x^$ & co</b>"))
    assert any("<b>" in text and "co</b>" in text for text in said)
