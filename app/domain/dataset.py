"""What is known of an uploaded data set, and how it is to be read."""

from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import Field

from app.domain.base import Record, Strict, Text
from app.domain.errors import InvalidDataset

DatasetFormat = Literal["npz", "csv", "parquet", "images"]
SplitName = Literal["train", "validation", "test"]

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
ALL = "all"
"""The one split of what is stored unsplit."""
TEXT = "str"
"""`ArrayInfo.dtype` of labels that are names: text labels and class folders."""
MAX_CLASSES = 10_000
MAX_LABEL_CHARACTERS = 200


class DatasetOptions(Strict):
    """The optional field `options` of `POST /v1/datasets`."""

    target: Text | None = Field(default=None, max_length=200)
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
    """As numpy names it; `str` where labels are names."""
    value_range: tuple[int, int] | None = None
    """Smallest and largest value, where the values are integers (booleans count as 0 and 1)."""

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers."""
        return self.dtype.startswith(("int", "uint", "bool"))


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
    """Class names (folders, text labels) or the distinct integer labels, as text, in index order.

    Names are numbered as listed here; integer labels are used as they are stored.
    """
    label_range: tuple[int, int] | None = None
    """Smallest and largest integer label, where the targets are integers."""
    columns: tuple[str, ...] | None = None
    """Tables: feature columns in the order the model receives them."""
    options: DatasetOptions = DatasetOptions()

    @property
    def unlabelled(self) -> bool:
        """Whether there are inputs alone."""
        return not any(split.targets for split in self.splits.values())


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names for a sentence: quoted, long ones cut, and no more than `limit` of them."""
    quoted = [f'"{name if len(name) <= 80 else name[:77] + "..."}"' for name in names]
    if not quoted:
        return "none"
    rest = len(quoted) - limit
    return ", ".join(quoted[:limit]) + (f" and {rest} more" if rest > 0 else "")


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct text labels in the order of their indexes: sorted by code point.

    Raises:
        InvalidDataset: too many to be classes, or not fit to be shown.
    """
    names = tuple(sorted(set(labels)))
    if len(names) > MAX_CLASSES:
        raise InvalidDataset(
            f"The targets hold more than {MAX_CLASSES:,} different texts; expected class names. "
            "Name the classes, or give numbers."
        )
    for name in names:
        if not name.strip() or len(name) > MAX_LABEL_CHARACTERS or not name.isprintable():
            raise InvalidDataset(
                f"The targets hold {name[:80]!r}; expected printable class names of at most "
                f"{MAX_LABEL_CHARACTERS} characters. Name the class of every sample."
            )
    return names
