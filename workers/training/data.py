"""A data set as the arrays that training, evaluation and calibration take.

Numpy only. Splits that are not stored are made by the job's seed; the test split is held out
first, by a random stream of its own. It is only ever used for the final figures, but where a job
chooses among candidates and no validation split is stored: then half of it chooses.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.domain.dataset import ALL, TEXT, DatasetInfo
from app.domain.errors import InvalidDataset
from app.domain.model import ModelInfo
from app.intake.fit import Adaptation, Reshape, adaptation
from workers.training.data_read import Raw, read_splits
from workers.training.data_split import hold_out

Array = np.ndarray[Any, Any]

_TEST_STREAM, _VALIDATION_STREAM = 0, 1
_NAMES = {"train": "training", "test": "test"}
_INT32 = np.iinfo(np.int32)
_CHOOSING_SHARE = 0.5
"""Of a stored test split, where candidates are judged and no validation split is stored."""


@dataclass(frozen=True)
class Samples:
    """One split, shaped and typed for the model; every array has the sample axis first."""

    inputs: dict[str, Array]
    """By the model's input name, in the model's order."""
    targets: tuple[Array, ...]
    """In the model's order of outputs."""
    count: int

    @property
    def x(self) -> Array | list[Array]:
        """What `fit`, `evaluate` and `predict` take: one array, or a list in the model's order."""
        arrays = list(self.inputs.values())
        return arrays[0] if len(arrays) == 1 else arrays

    @property
    def y(self) -> Array | list[Array]:
        """The targets in the same form."""
        return self.targets[0] if len(self.targets) == 1 else list(self.targets)

    def head(self, count: int) -> "Samples":
        """The first `count` samples, or all if there are fewer; views, no copies."""
        return Samples(
            inputs={name: array[:count] for name, array in self.inputs.items()},
            targets=tuple(array[:count] for array in self.targets),
            count=min(count, self.count),
        )

    def batches(self, size: int) -> Iterator[tuple[list[Array], list[Array]]]:
        """Inputs and targets in the model's order, `size` samples at a time, in stored order."""
        for start in range(0, self.count, size):
            yield (
                [array[start : start + size] for array in self.inputs.values()],
                [array[start : start + size] for array in self.targets],
            )


@dataclass(frozen=True)
class Data:
    """The three splits of a job."""

    train: Samples
    validation: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    """What was done to the data that the user should know."""


def load_data(
    path: Path, data: DatasetInfo, model: ModelInfo, seed: int, *, judging: bool = False
) -> Data:
    """Read a data set, split it and shape it for a model.

    Inputs are float32 (int32 where the model takes integers), times `options.scale`; integer
    labels and class indexes are int32, other targets float32.

    Args:
        judging: the validation samples will say how much worse than the original a candidate is.
            Training samples cannot: the original was trained on them, and what a candidate
            remembers of that hides its losses. So they come from the test samples, where a test
            split and no validation split is stored.

    Raises:
        DatasetMismatch: the data set does not fit the model.
        InvalidDataset: it cannot be read after all, or has too few samples to be split.
    """
    adapt = adaptation(model, data)
    raw = read_splits(path, data)
    splits, notes = _complete(raw, data, seed, judging)
    converted = {}
    for name in ("train", "validation", "test"):
        # Popping lets the stored arrays go as soon as the converted ones exist.
        converted[name] = _convert(splits.pop(name), adapt, data)
    return Data(**converted, notes=(*notes, *adapt.notes))


# --- splits ------------------------------------------------------------------------------------
def _complete(
    raw: dict[str, Raw], data: DatasetInfo, seed: int, judging: bool
) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Hold out what is not stored: test first, from the training samples, then validation."""
    splits = dict(raw)
    raw.clear()  # The caller's reference would keep every array alive twice.
    if ALL in splits:
        splits["train"] = splits.pop(ALL)
    stored, notes = frozenset(splits), []
    if "test" not in stored:
        share = data.options.test_share
        splits["train"], splits["test"] = _held_out(
            splits["train"], share, (seed, _TEST_STREAM), data
        )
        notes.append(
            f"No test split is stored: {splits['test'].count:,} samples ({share:.0%}) were held "
            f"out for the final figures by seed {seed}."
        )
    if "validation" not in stored:
        unseen = judging and "test" in stored and splits["test"].count > 1
        source = "test" if unseen else "train"
        share = _CHOOSING_SHARE if unseen else data.options.validation_share
        splits[source], splits["validation"] = _held_out(
            splits[source], share, (seed, _VALIDATION_STREAM), data
        )
        notes.append(
            f"No validation split is stored: {splits['validation'].count:,} of the "
            f"{_NAMES[source]} samples ({share:.0%}) were set aside by seed {seed}"
            f"{_why(judging, unseen)}."
        )
    return splits, tuple(notes)


def _why(judging: bool, unseen: bool) -> str:
    if unseen:
        return (
            " to choose among the candidates, because the original may know the training samples "
            "by heart; the final figures are of the rest"
        )
    if judging:
        return (
            ". Where the original was trained on them, what candidates lose looks less than it "
            "is: store samples that it never saw as the test or validation split"
        )
    return ""


def _held_out(
    train: Raw, share: float, stream: tuple[int, int], data: DatasetInfo
) -> tuple[Raw, Raw]:
    kept, held = hold_out(train.count, share, stream, _labels(train))
    return train.take(kept), train.take(held)


def _labels(raw: Raw) -> Array | None:
    """One class per sample, where the only target says so."""
    if len(raw.targets) != 1:
        return None
    (target,) = raw.targets.values()
    if target.dtype.kind not in "biuU" or target.size != raw.count:
        return None
    return target.reshape(raw.count)


# --- shape and type ----------------------------------------------------------------------------
def _convert(raw: Raw, adapt: Adaptation, data: DatasetInfo) -> Samples:
    count = raw.count
    inputs = {}
    for step in adapt.inputs:
        inputs[step.tensor] = _input(raw.inputs.pop(step.array), step, data.options.scale)
    targets = tuple(_target(raw.targets[step.array], step, data) for step in adapt.targets)
    return Samples(inputs, targets, count)


def _input(values: Array, step: Reshape, scale: float | None) -> Array:
    values = values.reshape(len(values), *step.shape)
    if step.integer:
        if not _fits_int32(values):
            raise InvalidDataset(
                f'"{step.array}" holds integers beyond 32 bits; the model takes indexes. Number '
                "them from 0."
            )
        return np.ascontiguousarray(values, dtype=np.int32)
    converted = np.ascontiguousarray(values, dtype=np.float32)
    if scale is None:
        return converted
    return np.multiply(converted, np.float32(scale), out=converted)


def _target(values: Array, step: Reshape, data: DatasetInfo) -> Array:
    values = values.reshape(len(values), *step.shape)
    if values.dtype.kind == "U":
        return _class_indexes(values, data.classes or ())
    # Integers too large for labels are quantities, and exact enough as floats.
    integer = values.dtype.kind in "biu" and step.integer and _fits_int32(values)
    return np.ascontiguousarray(values, dtype=np.int32 if integer else np.float32)


def _class_indexes(values: Array, classes: tuple[str, ...]) -> Array:
    found, inverse = np.unique(values, return_inverse=True)
    index = {name: number for number, name in enumerate(classes)}
    strangers = [str(name) for name in found if str(name) not in index]
    if strangers:
        raise InvalidDataset(
            f"The data set holds the class {strangers[0]!r}, which it did not hold when it was "
            f"uploaded ({TEXT} labels). Upload it again."
        )
    numbers = np.array([index[str(name)] for name in found], dtype=np.int32)
    return numbers[inverse].reshape(values.shape)


def _fits_int32(values: Array) -> bool:
    if values.dtype.kind == "b" or values.dtype.itemsize < _INT32.dtype.itemsize:
        return True
    return bool(int(values.min()) >= _INT32.min and int(values.max()) <= _INT32.max)
