"""What is known of an uploaded data set, and how it is to be read."""

from typing import Literal

from pydantic import Field

from app.domain.base import Record, Strict

DatasetFormat = Literal["npz", "csv", "parquet", "images"]
SplitName = Literal["train", "validation", "test"]


class DatasetOptions(Strict):
    """The optional field `options` of `POST /v1/datasets`."""

    target: str | None = Field(default=None, max_length=200)
    """Tables: the column to predict. Required for .csv and .parquet."""
    scale: float | None = Field(default=None, gt=0)
    """Inputs are multiplied by this, for example 0.00392156862745098 (1/255) for 8-bit pixels."""
    image_size: tuple[int, int] | None = None
    """Images: height and width to resize to. Left out, all images must be of one size."""
    color: Literal["rgb", "grayscale"] | None = None
    """Images: left out, as stored."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share held out for the final figures where the data comes unsplit."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training samples used for early stopping where no validation split is given."""


class ArrayInfo(Record):
    """One array of a split; `shape` without the sample axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class SplitInfo(Record):
    """One split as stored; what is stored unsplit is called `all`."""

    samples: int
    inputs: tuple[ArrayInfo, ...]
    targets: tuple[ArrayInfo, ...] = ()


class DatasetInfo(Record):
    """The static reading of a data set file."""

    format: DatasetFormat
    splits: dict[str, SplitInfo]
    """Keys: train, validation, test; or all, which each job splits by its own seed."""
    classes: tuple[str, ...] | None = None
    """Class names (folders, text labels) or the distinct integer labels, as text, in index order."""
    label_range: tuple[int, int] | None = None
    """Smallest and largest integer label, where the targets are integers."""
    columns: tuple[str, ...] | None = None
    """Tables: feature columns in the order the model receives them."""
    options: DatasetOptions = DatasetOptions()
