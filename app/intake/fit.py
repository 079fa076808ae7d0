"""Does this data set fit this model, and how must its arrays be shaped for it?

Two liberties are taken with inputs, and no others: axes of length 1 may be missing or extra
((28, 28) for a model that takes (28, 28, 1)), and samples of any shape are flattened for a model
whose input is flat ((28, 28, 1) for a model that takes (784,)). The other way round, flat samples
for an image model, is refused: nobody but the user knows in which order the values lie.
What the static reading of a model does not know is not checked.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from app.domain.dataset import ALL, TEXT, ArrayInfo, DatasetInfo, listed
from app.domain.errors import DatasetMismatch, InvalidSpec
from app.domain.model import ModelInfo, TensorInfo
from app.domain.objective import Match, check_asked, check_metric, settle
from app.domain.recovery import LossName
from app.domain.spec import PruningSpec

Shape = tuple[int, ...]
Axes = tuple[int | None, ...]


class Reshape(NamedTuple):
    """How one array of the data set becomes one tensor of the model."""

    tensor: str
    array: str
    shape: Shape
    """Per sample, without the batch axis."""
    integer: bool
    """Inputs: the model takes integers. Targets: they stay integers."""


@dataclass(frozen=True)
class Adaptation:
    """All reshapes, in the model's order, and what of it the user should know."""

    inputs: tuple[Reshape, ...]
    targets: tuple[Reshape, ...]
    notes: tuple[str, ...] = ()


def check_objective(model: ModelInfo, data: DatasetInfo, spec: PruningSpec) -> None:
    """Hold a data set, and the loss and metrics of a spec, against a model.

    Outputs whose shape is only known by running the model are checked by the job.

    Raises:
        DatasetMismatch: with what the model expects and what the data set has.
        InvalidSpec: a loss or metric that cannot be computed.
    """
    steps: tuple[Reshape | None, ...] = adaptation(model, data).targets
    if data.unlabelled:
        # The original's answers stand for targets: of each output's own shape.
        if spec.prune.criterion.kind in ("taylor", "fisher"):
            raise InvalidSpec(
                f"Criterion {spec.prune.criterion.kind} follows the gradient of the loss, which is "
                "zero where the model's own answers stand for missing targets: use wanda, "
                "activation or magnitude, or give targets.",
                field="prune.criterion",
            )
        if "auc" in (spec.evaluate.metrics or ()):
            raise InvalidSpec(
                "auc wants to know which samples are positive, and the data set has no targets: "
                "use accuracy, which then says how often both models agree.",
                field="evaluate.metrics",
            )
        steps = (None,) * len(model.outputs)
    asked = spec.fine_tune.loss if spec.fine_tune else None
    compiled = model.training.loss if model.training else None
    activations = model.output_activations or (None,) * len(steps)
    found: list[tuple[LossName, Match]] = []
    for tensor, step, activation in zip(model.outputs, steps, activations, strict=True):
        if tensor.shape is None or not tensor.shape[1:] or tensor.shape[-1] is None:
            continue
        match = Match(
            width=tensor.shape[-1],
            activation=activation,
            shape=_answer(tensor.shape) if step is None else step.shape,
            integer=step is not None and step.integer,
            dtype="int32" if step is not None and step.integer else "float32",
        )
        loss, _ = settle(match, asked, compiled)
        found.append((loss, match))
        for metric in spec.evaluate.metrics or ():
            check_metric(metric, loss, match)
    shapes = [tensor.shape for tensor in model.inputs]
    check_asked(spec, shapes, found if len(found) == len(steps) else ())


def _answer(shape: Axes) -> Shape:
    """Of one sample's answer; an axis of any length counts as one step."""
    return tuple(axis or 1 for axis in shape[1:])


def adaptation(model: ModelInfo, data: DatasetInfo) -> Adaptation:
    """How the arrays of a data set are handed to a model; checks the fit on the way.

    Raises:
        DatasetMismatch: with what the model expects and what the data set has.
    """
    split = data.splits[ALL if ALL in data.splits else "train"]
    inputs = tuple(
        _adapt_input(tensor, array, data) for tensor, array in _pairs(model, split.inputs, "input")
    )
    _check_vocabulary(model, data)
    pairs = [] if data.unlabelled else _pairs(model, split.targets, "output")
    targets = tuple(
        _adapt_target(model, index, tensor, array, data)
        for index, (tensor, array) in enumerate(pairs)
    )
    shapes = {array.name: array.shape for array in split.inputs}
    notes = tuple(
        f'Samples of "{step.array}", shape {shapes[step.array]}, are reshaped to {step.shape} for '
        f'the model\'s input "{step.tensor}".'
        for step in inputs
        if step.shape != shapes[step.array]
    )
    return Adaptation(inputs, targets, notes)


# --- names -------------------------------------------------------------------------------------
def _pairs(
    model: ModelInfo, arrays: tuple[ArrayInfo, ...], what: str
) -> list[tuple[TensorInfo, ArrayInfo]]:
    """Model tensors with their arrays: by name, or the only one with the only one."""
    tensors = model.inputs if what == "input" else model.outputs
    if not tensors and not model.graph_known:
        return []
    if len(tensors) == len(arrays) == 1:
        return [(tensors[0], arrays[0])]
    named = {array.name: array for array in arrays}
    if {tensor.name for tensor in tensors} == set(named):
        return [(tensor, named[tensor.name]) for tensor in tensors]
    role = "x" if what == "input" else "y"
    raise DatasetMismatch(
        f"The model has {len(tensors)} {what}s: {listed(tensor.name for tensor in tensors)}; the "
        f"data set has {len(arrays)}: {listed(named)}. Store one array for each in an .npz, with "
        f"keys such as {role}_train.{tensors[0].name if tensors else what}."
    )


# --- inputs ------------------------------------------------------------------------------------
def _adapt_input(tensor: TensorInfo, array: ArrayInfo, data: DatasetInfo) -> Reshape:
    integer = tensor.dtype is not None and tensor.dtype.startswith(("int", "uint"))
    if integer and not array.is_integer:
        raise DatasetMismatch(
            f'The model\'s input "{tensor.name}" takes integers ({tensor.dtype}); '
            f'"{array.name}" holds {array.dtype}. Store it as an integer array.'
        )
    if integer and data.options.scale is not None:
        raise DatasetMismatch(
            f'The model\'s input "{tensor.name}" takes integers ({tensor.dtype}), which cannot be '
            f"scaled by {data.options.scale}. Upload the data set without options.scale.",
            field="options.scale",
        )
    if tensor.shape is None:
        return Reshape(tensor.name, array.name, array.shape, integer)
    axes = tensor.shape[1:]
    shape = _fitted(axes, array.shape)
    if shape is None and len(axes) == 1 and axes[0] == math.prod(array.shape):
        shape = (math.prod(array.shape),)
    if shape is None:
        raise DatasetMismatch(
            f'The model\'s input "{tensor.name}" takes samples of shape {_shown(axes)}; '
            f'"{array.name}" has {_shown(array.shape)}. {_input_advice(axes, array, data)}'
        )
    return Reshape(tensor.name, array.name, shape, integer)


def _fitted(axes: Axes, shape: Shape) -> Shape | None:
    """The shape of equal values that fits the axes, where only axes of length 1 differ."""

    def fits(wanted: Axes, found: Shape) -> bool:
        return len(wanted) == len(found) and all(
            axis in (None, length) for axis, length in zip(wanted, found, strict=True)
        )

    if fits(axes, shape):
        return shape
    longer = tuple(length for length in shape if length != 1)
    if not fits(tuple(axis for axis in axes if axis != 1), longer):
        return None
    lengths = iter(longer)
    return tuple(1 if axis == 1 else next(lengths) for axis in axes)


def _input_advice(axes: Axes, array: ArrayInfo, data: DatasetInfo) -> str:
    known = [axis for axis in axes if axis is not None]
    if data.format == "images":
        return "Give options.image_size and options.color when uploading the images."
    if data.columns is not None and len(axes) == 1:
        return f"The table must have {known[0] if known else 'other'} columns beside the target."
    if len(known) == len(axes) and math.prod(known) == math.prod(array.shape):
        return f"Both have {math.prod(known):,} values: store x as .npz, reshaped to that shape."
    return "Reshape or resize the samples."


def _check_vocabulary(model: ModelInfo, data: DatasetInfo) -> None:
    """Where the only input goes straight into embeddings, its values index their rows."""
    layers = [layer for layer in model.layers if layer.class_name != "InputLayer"]
    if len(model.inputs) != 1 or not layers or layers[0].class_name != "Embedding":
        return
    sizes = [layer.settings.get("input_dim") for layer in layers if layer.class_name == "Embedding"]
    rows = max((size for size in sizes if isinstance(size, int)), default=None)
    for split in data.splits.values():
        for array in split.inputs:
            low, high = array.value_range or (0, 0)
            if rows is not None and (low < 0 or high >= rows):
                raise DatasetMismatch(
                    f'The model embeds the indexes 0 to {rows - 1}; "{array.name}" holds {low} to '
                    f"{high}. Use the vocabulary that the model was trained with."
                )


# --- targets -----------------------------------------------------------------------------------
def _adapt_target(
    model: ModelInfo,
    index: int,
    tensor: TensorInfo,
    array: ArrayInfo,
    data: DatasetInfo,
) -> Reshape:
    labels = array.is_integer or array.dtype == TEXT
    if tensor.shape is None:
        return Reshape(tensor.name, array.name, array.shape, labels)
    axes = tensor.shape[1:]
    shape = _sparse_shape(axes, array) if labels else None
    if shape is not None:
        _check_labels(tensor, axes[-1], array, data)
        return Reshape(tensor.name, array.name, shape, integer=True)
    shape = _fitted(axes, array.shape)
    if shape is None:
        raise DatasetMismatch(
            f'The model\'s output "{tensor.name}" has shape {_shown(axes)}; targets '
            f'"{array.name}" have {_shown(array.shape)} ({array.dtype}). '
            f"{_target_advice(axes, array)}"
        )
    if labels and axes and math.prod(array.shape) == 1:
        _check_single_unit(model, index, tensor, array, data)
    return Reshape(tensor.name, array.name, shape, labels)


def _sparse_shape(axes: Axes, array: ArrayInfo) -> Shape | None:
    """The targets' shape where they are class numbers: the output's without its last axis."""
    if not axes or axes[-1] == 1 or _fitted(axes, array.shape) == array.shape:
        return None
    wanted = axes[:-1]
    if len(array.shape) == len(axes) and array.shape[-1] == 1:
        return _fitted(wanted, array.shape[:-1])
    return array.shape if _fitted(wanted, array.shape) == array.shape else None


def _check_labels(
    tensor: TensorInfo, units: int | None, array: ArrayInfo, data: DatasetInfo
) -> None:
    if units is None:
        return
    if array.dtype == TEXT:
        count = len(data.classes or ())
        # Fewer names than units: they would be numbered differently than the model learned them.
        if count != units:
            raise DatasetMismatch(
                f'The model\'s output "{tensor.name}" tells {units} classes apart; the data set '
                f"names {count}: {listed(data.classes or ())}. Use the classes that the model was "
                "trained with, or store integer labels in an .npz."
            )
        return
    low, high = _range_over_splits(array, data)
    if low < 0 or high >= units:
        advice = (
            "They seem to start at 1: subtract 1."
            if low == 1 and high == units
            else "Use the labels that the model was trained with."
        )
        raise DatasetMismatch(
            f'The model\'s output "{tensor.name}" has {units} units, for labels 0 to {units - 1}; '
            f'"{array.name}" holds labels {low} to {high}, which need {max(high, 0) + 1} units'
            f"{' and none below 0' if low < 0 else ''}. {advice}"
        )


def _check_single_unit(
    model: ModelInfo,
    index: int,
    tensor: TensorInfo,
    array: ArrayInfo,
    data: DatasetInfo,
) -> None:
    """One unit is either a number (any integer will do) or one of two classes."""
    if array.dtype == TEXT:
        if len(data.classes or ()) != 2:
            raise DatasetMismatch(
                f'The model\'s output "{tensor.name}" is a single unit, which tells 2 classes '
                f"apart; the data set names {len(data.classes or ())}: "
                f"{listed(data.classes or ())}. Use a model with one unit for each class."
            )
        return
    activations = model.output_activations
    sigmoid = index < len(activations) and activations[index] == "sigmoid"
    binary = model.training is not None and model.training.loss == "binary_crossentropy"
    low, high = _range_over_splits(array, data)
    if (sigmoid or (binary and len(model.outputs) == 1)) and (low < 0 or high > 1):
        raise DatasetMismatch(
            f'The model\'s output "{tensor.name}" is a single unit between 0 and 1, for labels 0 '
            f'and 1; "{array.name}" holds labels {low} to {high}. Number the two classes 0 and 1.'
        )


def _range_over_splits(array: ArrayInfo, data: DatasetInfo) -> tuple[int, int]:
    ranges = [
        target.value_range
        for split in data.splits.values()
        for target in split.targets
        if target.name == array.name and target.value_range is not None
    ]
    if not ranges:
        return 0, 0
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _target_advice(axes: Axes, array: ArrayInfo) -> str:
    units = axes[-1] if axes else None
    if array.shape in ((), (1,)) and not array.is_integer and array.dtype != TEXT:
        return "If they are class labels, store them as integers."
    if len(axes) == 1 and len(array.shape) == 1 and units is not None:
        return f"One-hot or regression targets need {units} values per sample."
    return "Store one target for each output value, or one integer label per sample."


def _shown(axes: Axes) -> str:
    inside = ", ".join("any" if axis is None else str(axis) for axis in axes)
    return f"({inside},)" if len(axes) == 1 else f"({inside})"
