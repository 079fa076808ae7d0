"""Static reading of tables (.csv, .parquet): one pass over row batches, never the whole table.

A table is one split `all` with one input "x" of shape (columns,), in the order stored, and one
target "y", the column that `options.target` names. Comma-separated text carries no types, so a
column's type is what fits all of its values: boolean, integer, float or text.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.dataset import (
    ALL,
    MAX_CLASSES,
    TEXT,
    ArrayInfo,
    DatasetInfo,
    DatasetOptions,
    SplitInfo,
    class_names,
    listed,
)
from app.domain.errors import InvalidDataset
from app.intake.table_files import check_size, open_table, refusing

Kind = Literal["boolean", "integer", "float", "text", "other"]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_DTYPES: dict[Kind, str] = {
    "boolean": "bool",
    "integer": "int64",
    "float": "float64",
    "text": TEXT,
}


@dataclass
class _Column:
    """What has been seen of one column so far."""

    name: str
    kind: Kind | None = None
    arrow_type: str = ""
    missing: int = 0
    infinite: int = 0
    low: int | None = None
    high: int | None = None
    labels: set[Any] | None = field(default_factory=set)
    texts: set[str] | None = field(default_factory=set)


def inspect_table(path: Path, kind: Any, options: DatasetOptions) -> DatasetInfo:
    """Read a .csv or .parquet file.

    Raises:
        InvalidDataset: damaged, over a limit, or with columns that are no numbers.
    """
    table = open_table(path, kind)
    target = _check_target(table.columns, options)
    columns = [_Column(name) for name in table.columns]
    rows = 0
    with refusing(kind):
        for batch in table.batches():
            rows += batch.num_rows
            check_size(rows, len(columns))
            for column, values in zip(columns, batch.columns, strict=True):
                _observe(column, values, is_target=column.name == target)
    if rows == 0:
        raise InvalidDataset("Expected rows below the column names; the table has none. Add them.")
    features = [column for column in columns if column.name != target]
    _check_values(columns, features)
    return _describe(
        kind,
        rows,
        features,
        next(column for column in columns if column.name == target),
        options,
    )


def to_numbers(values: Any) -> tuple[Kind, np.ndarray[Any, Any]] | None:
    """A column batch as numbers, where it is one: bool, int64 or float64, missing left out.

    Text is trimmed, then tried as integers, as floats, and as true/false. None where the values
    are something else.
    """
    values = values.drop_null()
    whole = pa.types.is_integer(values.type)
    if pa.types.is_boolean(values.type):
        return "boolean", values.to_numpy(zero_copy_only=False)
    if _is_text(values.type):
        values = pc.utf8_trim_whitespace(values)
        # Casting is fast where it succeeds and slow where it fails: look first.
        whole = pc.all(pc.match_substring_regex(values, r"^-?[0-9]+$")).as_py()
    elif pa.types.is_floating(values.type):
        return "float", values.cast(pa.float64()).to_numpy()
    elif not whole:
        return None
    if whole:
        with suppress(pa.ArrowInvalid):
            return "integer", values.cast(pa.int64()).to_numpy()
    with suppress(pa.ArrowInvalid):  # unsafe: integers beyond int64 may be rounded
        return "float", values.cast(pa.float64(), safe=False).to_numpy()
    lowered = pc.utf8_lower(values)
    true = pc.equal(lowered, "true")
    boolean = pc.all(pc.or_(true, pc.equal(lowered, "false"))).as_py()
    return ("boolean", true.to_numpy(zero_copy_only=False)) if boolean else None


def to_texts(values: Any) -> Any | None:
    """A column batch as trimmed text without missing values, or None where it is not text."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return pc.utf8_trim_whitespace(values.drop_null()) if _is_text(values.type) else None


def _is_text(arrow_type: Any) -> bool:
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


# --- checks ------------------------------------------------------------------------------------
def _check_target(columns: tuple[str, ...], options: DatasetOptions) -> str:
    if options.target in columns:
        return options.target
    said = (
        "options.target must name the column to predict"
        if options.target is None
        else f"options.target names {listed([options.target])}, which is no column"
    )
    headless = (
        " These look like values: the first line must hold the column names."
        if all(map(_is_number, columns))
        else ""
    )
    raise InvalidDataset(
        f"{said}. The table has the columns {listed(columns, limit=50)}.{headless}",
        field="options.target",
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _observe(column: _Column, values: Any, *, is_target: bool) -> None:
    column.arrow_type = str(values.type)
    column.missing += values.null_count
    if len(values) == values.null_count:
        return
    numbers = None if column.kind == "text" and not is_target else to_numbers(values)
    if numbers is None:
        column.kind = "text" if to_texts(values) is not None else "other"
    else:
        _observe_numbers(column, *numbers)
    if is_target:
        _observe_labels(column, values, numbers)


def _observe_numbers(column: _Column, kind: Kind, numbers: np.ndarray[Any, Any]) -> None:
    if column.kind in (None, kind):
        column.kind = kind
    elif {column.kind, kind} == {"integer", "float"}:
        column.kind = "float"
    else:
        column.kind = "text"
    if kind == "float":
        column.missing += int(np.isnan(numbers).sum())
        column.infinite += int((np.abs(numbers) > _FLOAT32_MAX).sum())
    else:
        low, high = int(numbers.min()), int(numbers.max())
        column.low = low if column.low is None else min(column.low, low)
        column.high = high if column.high is None else max(column.high, high)


def _observe_labels(
    column: _Column, values: Any, numbers: tuple[Kind, np.ndarray[Any, Any]] | None
) -> None:
    """Keep distinct labels both ways: a later batch may turn integers into text."""
    if column.labels is not None and numbers is not None and numbers[0] != "float":
        column.labels.update(np.unique(numbers[1]).tolist())
        if len(column.labels) > MAX_CLASSES:
            column.labels = None
    texts = to_texts(values) if column.texts is not None else None
    if texts is not None and column.texts is not None:
        column.texts.update(pc.unique(texts).to_pylist())
        if len(column.texts) > MAX_CLASSES:
            column.texts = None


def _check_values(columns: list[_Column], features: list[_Column]) -> None:
    gaps = [f"{listed([column.name])} ({column.missing:,})" for column in columns if column.missing]
    if gaps:
        raise InvalidDataset(
            f"Expected a value in every cell; values are missing in {', '.join(gaps[:20])}"
            f"{f' and {len(gaps) - 20} more columns' if len(gaps) > 20 else ''}. Fill them or "
            "leave those rows out."
        )
    texts = [column.name for column in features if column.kind == "text"]
    if texts:
        raise InvalidDataset(
            f"Expected numbers or booleans; these columns hold text: {listed(texts)}. Encode "
            "them first (for example one-hot), or leave them out."
        )
    others = [f"{column.name}: {column.arrow_type}" for column in columns if column.kind == "other"]
    if others:
        raise InvalidDataset(
            f"Expected numbers or booleans; these columns are of another type: {listed(others)}. "
            "Convert them to floats, or leave them out."
        )
    infinite = [column.name for column in columns if column.infinite]
    if infinite:
        raise InvalidDataset(
            "Expected finite numbers within float32's range; others are in "
            f"{listed(infinite)}. Replace them."
        )


# --- result ------------------------------------------------------------------------------------
def _describe(
    kind: Any,
    rows: int,
    features: list[_Column],
    target: _Column,
    options: DatasetOptions,
) -> DatasetInfo:
    whole = all(column.kind in ("boolean", "integer") for column in features)
    lows = [column.low for column in features if column.low is not None]
    highs = [column.high for column in features if column.high is not None]
    inputs = ArrayInfo(
        name="x",
        shape=(len(features),),
        dtype="int64" if whole else "float64",
        value_range=(min(lows), max(highs)) if whole else None,
    )
    label_range = None
    if target.kind in ("boolean", "integer") and target.low is not None:
        label_range = (target.low, target.high or 0)
    targets = ArrayInfo(
        name="y",
        shape=(),
        dtype=_DTYPES[target.kind or "text"],
        value_range=label_range,
    )
    return DatasetInfo(
        format=kind,
        splits={ALL: SplitInfo(samples=rows, inputs=(inputs,), targets=(targets,))},
        classes=_classes(target),
        label_range=label_range,
        columns=tuple(column.name for column in features),
        options=options,
    )


def _classes(target: _Column) -> tuple[str, ...] | None:
    if target.kind == "float":
        return None
    if target.kind != "text":
        labels = target.labels
        return None if labels is None else tuple(str(int(label)) for label in sorted(labels))
    if target.texts is None:
        raise InvalidDataset(
            f"Target {listed([target.name])} holds more than {MAX_CLASSES:,} different texts; "
            "expected class names. Name another column in options.target.",
            field="options.target",
        )
    return class_names(target.texts)
