"""Which data set fits which model."""

from typing import Any

import pytest

from app.domain.dataset import ArrayInfo, DatasetInfo, DatasetOptions, SplitInfo
from app.domain.errors import DatasetMismatch
from app.domain.model import LayerInfo, ModelInfo, TensorInfo, TrainingInfo
from app.intake.fit import adaptation

Axes = tuple[int | None, ...] | None


def model(
    inputs: dict[str, Axes], outputs: dict[str, Axes], *, dtype: str = "float32", **more: Any
) -> ModelInfo:
    """Shapes without the batch axis."""

    def tensors(shapes: dict[str, Axes], dtype: str) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(name=name, shape=None if axes is None else (None, *axes), dtype=dtype)
            for name, axes in shapes.items()
        )

    settings = {"layers": (), **more}
    return ModelInfo(
        format="keras", keras_version="3", legacy=False, parameters=0,
        inputs=tensors(inputs, dtype), outputs=tensors(outputs, "float32"), **settings,
    )  # fmt: skip


def array(name: str, shape: tuple[int, ...], dtype: str, span: Any = None) -> ArrayInfo:
    return ArrayInfo(name=name, shape=shape, dtype=dtype, value_range=span)


def data(x: Any, y: Any, **more: Any) -> DatasetInfo:
    """One array each, or several."""
    inputs = x if isinstance(x, list) else [x]
    targets = y if isinstance(y, list) else [y]
    split = SplitInfo(samples=10, inputs=tuple(inputs), targets=tuple(targets))
    settings: dict[str, Any] = {"format": "npz", "splits": {"train": split, "test": split}, **more}
    return DatasetInfo(**settings)


LABELS = array("y", (), "int64", (0, 9))


def pixels(*shape: int) -> ArrayInfo:
    return array("x", shape, "uint8", (0, 255))


@pytest.mark.parametrize(
    ("axes", "shape", "reshaped"),
    [
        ((784,), (784,), (784,)),
        ((28, 28, 1), (28, 28, 1), (28, 28, 1)),
        ((28, 28, 1), (28, 28), (28, 28, 1)),
        ((28, 28), (28, 28, 1), (28, 28)),
        ((1, 28, 28), (28, 28, 1), (1, 28, 28)),
        ((784,), (28, 28), (784,)),
        ((2352,), (28, 28, 3), (2352,)),
        ((None, None, 3), (32, 48, 3), (32, 48, 3)),
        ((None, None, 1), (32, 48), (32, 48, 1)),
        ((None,), (17,), (17,)),
        ((None, 1), (17,), (17, 1)),
        ((1,), (), (1,)),
        (None, (5, 6), (5, 6)),
    ],
)
def test_inputs_that_fit(axes: Axes, shape: tuple[int, ...], reshaped: tuple[int, ...]) -> None:
    adapt = adaptation(model({"in": axes}, {"out": (10,)}), data(pixels(*shape), LABELS))
    (step,) = adapt.inputs
    assert (step.tensor, step.array, step.shape) == ("in", "x", reshaped)
    assert bool(adapt.notes) == (shape != reshaped)


@pytest.mark.parametrize(
    ("axes", "shape", "said"),
    [
        ((28, 28, 1), (784,), "Both have 784 values"),
        ((28, 28, 1), (28, 28, 3), "takes samples of shape (28, 28, 1)"),
        ((784,), (28, 28, 3), '"x" has (28, 28, 3)'),
        ((None,), (28, 28), "(any,)"),
        ((28, 28), (28, 28, 28), "Reshape"),
        ((4, 6), (6, 4), "Both have 24 values"),
    ],
)
def test_inputs_that_do_not_fit(axes: Axes, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(DatasetMismatch) as caught:
        adaptation(model({"in": axes}, {"out": (10,)}), data(pixels(*shape), LABELS))
    assert said in caught.value.detail


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"format": "csv", "columns": ("a",)}, "must have 784 columns"),
        ({"format": "images"}, "options.image_size"),
    ],
)
def test_advice_is_that_of_the_format(more: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetMismatch, match=said):
        adaptation(model({"in": (784,)}, {"out": (10,)}), data(pixels(3), LABELS, **more))


def test_several_inputs_and_outputs_pair_by_name() -> None:
    two = model({"b": (3,), "a": (2,)}, {"q": (10,), "p": (1,)})
    fitting = data(
        [array("a", (2,), "float32"), array("b", (3,), "float32")],
        [array("p", (), "float32"), array("q", (), "int32", (0, 9))],
    )
    adapt = adaptation(two, fitting)
    assert [(step.tensor, step.array) for step in adapt.inputs] == [("b", "b"), ("a", "a")]
    assert [(step.tensor, step.shape) for step in adapt.targets] == [("q", ()), ("p", (1,))]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([array("a", (2,), "float32")], [LABELS], 'keys such as x_train.b'),
        (
            [array("a", (2,), "float32"), array("c", (3,), "float32")],
            [LABELS],
            'has 2: "a", "c"',
        ),
        (
            [array("a", (2,), "float32"), array("b", (3,), "float32")],
            [LABELS],
            "2 outputs",
        ),
    ],
)  # fmt: skip
def test_names_that_do_not_pair(x: Any, y: Any, said: str) -> None:
    with pytest.raises(DatasetMismatch) as caught:
        adaptation(model({"b": (3,), "a": (2,)}, {"p": (10,), "q": (10,)}), data(x, y))
    assert said in caught.value.detail


def names(*classes: str) -> dict[str, Any]:
    return {"classes": classes}


TEXT = array("y", (), "str")


@pytest.mark.parametrize(
    ("axes", "y", "more", "shape"),
    [
        ((10,), LABELS, {}, ()),
        ((10,), array("y", (1,), "uint8", (0, 9)), {}, ()),
        ((12,), LABELS, {}, ()),
        ((10,), array("y", (10,), "float32"), {}, (10,)),
        ((10,), array("y", (10,), "uint8", (0, 1)), {}, (10,)),
        ((1,), array("y", (), "float32"), {}, (1,)),
        ((1,), array("y", (), "int64", (3, 90)), {}, (1,)),
        ((1,), array("y", (), "bool", (0, 1)), {}, (1,)),
        ((), array("y", (), "float32"), {}, ()),
        ((3,), TEXT, names("a", "b", "c"), ()),
        ((1,), TEXT, names("a", "b"), (1,)),
        ((32, 32, 5), array("y", (32, 32), "uint8", (0, 4)), {}, (32, 32)),
        ((32, 32, 5), array("y", (32, 32, 1), "uint8", (0, 4)), {}, (32, 32)),
        ((None, 5), array("y", (7,), "int64", (0, 4)), {}, (7,)),
        ((28, 28, 1), array("y", (28, 28), "uint8", (0, 255)), {}, (28, 28, 1)),
        (None, LABELS, {}, ()),
        ((None,), LABELS, {}, ()),
    ],
)
def test_targets_that_fit(
    axes: Axes, y: ArrayInfo, more: dict[str, Any], shape: tuple[int, ...]
) -> None:
    adapt = adaptation(model({"in": (4,)}, {"out": axes}), data(pixels(4), y, **more))
    assert adapt.targets[0].shape == shape


@pytest.mark.parametrize(
    ("axes", "y", "more", "said"),
    [
        ((5,), LABELS, {}, "labels 0 to 9, which need 10 units"),
        ((9,), array("y", (), "int64", (1, 9)), {}, "start at 1: subtract 1"),
        ((10,), array("y", (), "int64", (-1, 9)), {}, "none below 0"),
        ((10,), array("y", (8,), "float32"), {}, "need 10 values per sample"),
        ((10,), array("y", (8,), "int64", (0, 1)), {}, "need 10 values per sample"),
        ((10,), array("y", (), "float64"), {}, "store them as integers"),
        ((1,), array("y", (2,), "float32"), {}, "need 1 values"),
        ((3,), TEXT, names("a", "b"), 'names 2: "a", "b"'),
        ((2,), TEXT, names("a", "b", "c"), "tells 2 classes apart"),
        ((1,), TEXT, names("a", "b", "c"), "single unit"),
        ((32, 32, 5), LABELS, {}, "one integer label per sample"),
        ((32, 32, 5), array("y", (32, 32), "uint8", (0, 5)), {}, "which need 6 units"),
        ((32, 32, 5), TEXT, names("a", "b"), '"y" have () (str)'),
    ],
)
def test_targets_that_do_not_fit(axes: Axes, y: ArrayInfo, more: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetMismatch) as caught:
        adaptation(model({"in": (4,)}, {"out": axes}), data(pixels(4), y, **more))
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "more",
    [{"output_activations": ("sigmoid",)}, {"training": TrainingInfo(loss="binary_crossentropy")}],
)
def test_a_binary_unit_takes_labels_0_and_1(more: dict[str, Any]) -> None:
    binary = model({"in": (4,)}, {"out": (1,)}, **more)
    adaptation(binary, data(pixels(4), array("y", (), "int64", (0, 1))))
    with pytest.raises(DatasetMismatch, match="labels 1 to 2"):
        adaptation(binary, data(pixels(4), array("y", (), "int64", (1, 2))))


def test_labels_of_every_split_count() -> None:
    def split(high: int) -> SplitInfo:
        return SplitInfo(
            samples=9, inputs=(pixels(4),), targets=(array("y", (), "int64", (0, high)),)
        )

    uneven = DatasetInfo(format="npz", splits={"train": split(4), "test": split(5)})
    with pytest.raises(DatasetMismatch, match="labels 0 to 5"):
        adaptation(model({"in": (4,)}, {"out": (5,)}), uneven)


def test_integer_inputs_take_integers_unscaled() -> None:
    indexes = model({"in": (4,)}, {"out": (10,)}, dtype="int32")
    assert adaptation(indexes, data(pixels(4), LABELS)).inputs[0].integer
    with pytest.raises(DatasetMismatch, match="Store it as an integer array"):
        adaptation(indexes, data(array("x", (4,), "float32"), LABELS))
    with pytest.raises(DatasetMismatch, match="cannot be scaled"):
        adaptation(indexes, data(pixels(4), LABELS, options=DatasetOptions(scale=0.5)))


def test_indexes_stay_within_the_embedding() -> None:
    layers = tuple(
        LayerInfo.model_validate(
            {"name": kind, "class": kind, "parameters": 0, "settings": {"input_dim": 200}}
        )
        for kind in ("InputLayer", "Embedding")
    )
    embedding = model({"in": (4,)}, {"out": (10,)}, layers=layers)
    adaptation(embedding, data(array("x", (4,), "int64", (0, 199)), LABELS))
    with pytest.raises(DatasetMismatch, match="indexes 0 to 199"):
        adaptation(embedding, data(array("x", (4,), "int64", (0, 200)), LABELS))


def test_what_a_class_builds_is_left_to_the_job() -> None:
    """Of KerasHub's models the file tells the names of inputs, and nothing of outputs."""
    tokens = array("x.tokens", (16,), "int32"), array("x.mask", (16,), "int32")
    unknown = model({"x.tokens": None, "x.mask": None}, {}, graph_known=False)
    fit = adaptation(unknown, data(list(tokens), LABELS))
    assert [step.shape for step in fit.inputs] == [(16,), (16,)]
    assert fit.targets == ()
    with pytest.raises(DatasetMismatch, match=r"x\.tokens"):
        adaptation(unknown, data(tokens[0], LABELS))
