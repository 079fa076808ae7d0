"""What concerns classes is held against losses and targets before a job is queued."""

from typing import Any

import pytest

from app.domain.errors import InvalidSpec
from app.domain.objective import Match, check_asked
from app.domain.spec import PruningSpec


def match(width: int, shape: tuple[int, ...], integer: bool) -> Match:
    return Match(width=width, activation=None, shape=shape, integer=integer, dtype="")


LABELS = ("sparse_categorical_crossentropy", match(10, (), True))
ROWS = ("categorical_crossentropy", match(10, (10,), False))
YES_OR_NO = ("binary_crossentropy", match(1, (1,), True))
MANY_TAGS = ("binary_crossentropy", match(7, (7,), False))
EACH_STEP = ("sparse_categorical_crossentropy", match(10, (5,), True))
NUMBER = ("mean_squared_error", match(1, (1,), False))


IMAGES = (None, 28, 28, 1)


def asked(**parts: Any) -> PruningSpec:
    whole = {
        "model": "mdl_1",
        "dataset": "dts_1",
        "prune": {"target": {"kind": "macs", "keep": 0.5}},
    }
    return PruningSpec.model_validate(whole | parts)


def check(spec: dict[str, Any], *found: Any, shapes: Any = (IMAGES,)) -> None:
    check_asked(asked(fine_tune=spec), shapes, found)


def refused(spec: dict[str, Any], *found: Any, shapes: Any = (IMAGES,)) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as info:
        check(spec, *found, shapes=shapes)
    return info.value


@pytest.mark.parametrize("found", [LABELS, ROWS, YES_OR_NO])
def test_classes_may_be_weighed_and_smoothed(found: Any) -> None:
    check({"class_weights": "balanced", "label_smoothing": 0.1}, found)


@pytest.mark.parametrize("found", [MANY_TAGS, EACH_STEP, NUMBER])
def test_weights_need_one_class_per_sample(found: Any) -> None:
    error = refused({"class_weights": "balanced"}, found)
    assert error.field == "fine_tune.class_weights"
    assert found[0] in error.detail
    assert str(found[1].shape) in error.detail


def test_weights_need_one_output() -> None:
    assert "this model has 2" in refused({"class_weights": "balanced"}, LABELS, LABELS).detail


def test_smoothing_needs_classes_somewhere() -> None:
    check({"label_smoothing": 0.1}, NUMBER, MANY_TAGS)
    error = refused({"label_smoothing": 0.1}, NUMBER)
    assert error.field == "fine_tune.label_smoothing"
    assert "mean_squared_error" in error.detail


def test_only_images_can_be_changed() -> None:
    flipped = {"augmentation": {"flip": True}}
    check(flipped, LABELS)
    check(flipped, shapes=[None])
    check(flipped, shapes=[])
    check({}, LABELS, shapes=[(None, 784)])
    for shapes in ([(None, 784)], [(None, 8, 8, 3), (None, 8, 8, 3)]):
        error = refused(flipped, LABELS, shapes=shapes)
        assert "images, one input" in error.detail
        assert str(shapes[0]) in error.detail
        assert error.field == "fine_tune.augmentation"


def test_targets_with_places_of_their_own_are_not_left_behind() -> None:
    mask = ("sparse_categorical_crossentropy", match(3, (32, 32), True))
    error = refused({"augmentation": {"flip": True}}, mask)
    assert error.field == "fine_tune.augmentation"
    assert "(32, 32)" in error.detail


def test_int8_is_for_one_input() -> None:
    spec = asked(exports=["litert_int8"])
    check_asked(spec, [IMAGES], ())
    with pytest.raises(InvalidSpec, match="this one has 2") as info:
        check_asked(spec, [IMAGES, IMAGES], ())
    assert info.value.field == "exports"


def test_accuracy_needs_classes() -> None:
    spec = asked(prune={"target": {"kind": "accuracy_drop", "max_points": 1.0}})
    check_asked(spec, [IMAGES], [LABELS, NUMBER])
    check_asked(asked(), [IMAGES], [NUMBER])
    with pytest.raises(InvalidSpec, match="mean_squared_error") as info:
        check_asked(spec, [IMAGES], [NUMBER])
    assert info.value.field == "prune.target"


def test_what_is_not_asked_is_not_checked() -> None:
    check({}, NUMBER)
    check({"label_smoothing": 0.1})
    check_asked(asked(fine_tune=None), [(None, 784)], [NUMBER])
