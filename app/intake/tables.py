"""Static reading of tables (.csv, .parquet): one pass over row batches, never the whole table.

A table is one split `all` with one input "x" of shape (columns,), in the order stored, and one
target "y", the column that `options.target` names. Comma-separated text carries no types, so a
column's type is what fits all of its values: boolean, integer, float or text.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

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

MAX_COLUMNS = 10_000
MAX_ROWS = 50_000_000
MAX_CELLS = 2_000_000_000
MAX_HEADER_BYTES = 2 * 2**20
BLOCK_BYTES = 8 * 2**20
BATCH_CELLS = 2**20

Kind = Literal["boolean", "integer", "float", "text", "other"]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
# Arrow reports damage in any of these; Arrow's own base class covers the rest.
_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError)
_DTYPES: dict[Kind, str] = {
    "boolean": "bool",
    "integer": "int64",
    "float": "float64",
    "text": TEXT,
}


@dataclass(frozen=True)
class Table:
    """Column names, and how to go through the rows; each batch has the columns in that order."""

    columns: tuple[str, ...]
    batches: Callable[[], Iterator[Any]]


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


def open_table(path: Path, kind: str) -> Table:
    """A table's columns, and its rows in batches.

    Raises:
        InvalidDataset: damaged, without a header, or over a limit.
    """
    path.stat()  # A file that is not there is no fault of the user's.
    with _refusing(kind):
        table = _open_csv(path) if kind == "csv" else _open_parquet(path)
    _check_columns(table.columns)
    return table


def inspect_table(path: Path, kind: Any, options: DatasetOptions) -> DatasetInfo:
    """Read a .csv or .parquet file.

    Raises:
        InvalidDataset: damaged, over a limit, or with columns that are no numbers.
    """
    table = open_table(path, kind)
    target = _check_target(table.columns, options)
    columns = [_Column(name) for name in table.columns]
    rows = 0
    with _refusing(kind):
        for batch in table.batches():
            rows += batch.num_rows
            _check_size(rows, len(columns))
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


# --- opening -----------------------------------------------------------------------------------
@contextmanager
def _refusing(kind: str) -> Iterator[None]:
    """What Arrow reports about the content becomes InvalidDataset."""
    try:
        yield
    except _BROKEN as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        advice = (
            "Give every row the same number of values and save it as UTF-8 text"
            if kind == "csv"
            else "Write the file again"
        )
        raise InvalidDataset(f"The .{kind} file cannot be read: {said}. {advice}.") from error


def _open_csv(path: Path) -> Table:
    names = _csv_header(path)
    _check_width(len(names))

    def batches() -> Iterator[Any]:
        with pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
            ),
        ) as reader:
            if tuple(reader.schema.names) != names:
                raise ValueError("the first line is not a list of column names")
            yield from reader

    return Table(names, batches)


def _csv_header(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
        cut = bool(file.read(1))
    if b"\0" in head:
        raise InvalidDataset(
            "Expected comma-separated UTF-8 text; the file holds zero bytes. Save it as UTF-8 "
            "text, not UTF-16 and not a spreadsheet."
        )
    if cut and b"\n" not in head and b"\r" not in head:
        raise InvalidDataset(
            f"Expected column names in the first line, {MAX_HEADER_BYTES:,} bytes at most; the "
            "line is longer. Upload wide data as .npz."
        )
    # A cut may fall into a character; only the first line is of interest here.
    text = head.decode("utf-8-sig", errors="ignore" if cut else "strict")
    try:
        header = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
    except csv.Error as error:
        raise InvalidDataset(
            f"The first line cannot be read as column names ({error}). Put plain names there, "
            "separated by commas."
        ) from error
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise InvalidDataset(
            "Expected values separated by commas; the first line uses semicolons or tabs. Save "
            "the table with commas."
        )
    return tuple(header)


def _open_parquet(path: Path) -> Table:
    file = pq.ParquetFile(path)
    metadata = file.metadata
    _check_size(metadata.num_rows, metadata.num_columns)
    # pandas stores an unnamed row index as a column; it is no feature.
    names = tuple(name for name in file.schema_arrow.names if not name.startswith("__index_level_"))
    _check_width(metadata.num_columns)
    file.close()

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as opened:
            size = max(1, BATCH_CELLS // max(1, len(names)))
            for batch in opened.iter_batches(size, columns=list(names), use_threads=False):
                yield batch.select(list(names))

    return Table(names, batches)


# --- checks ------------------------------------------------------------------------------------
def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise InvalidDataset(
            f"Expected at most {MAX_COLUMNS:,} columns; the table has {columns:,}. Upload wide "
            "data as .npz."
        )


def _check_columns(names: tuple[str, ...]) -> None:
    if len(names) < 2:
        raise InvalidDataset(
            f"Expected a target column and at least one other; the table has {listed(names)}."
        )
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise InvalidDataset(
                f"Column {place} has no name. Name it; if it is a row index, save the table "
                "without it (index=False in pandas)."
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidDataset(f"Column names must differ; given twice: {listed(twice)}. Rename.")


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


def _check_size(rows: int, columns: int) -> None:
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise InvalidDataset(
            f"Expected at most {MAX_ROWS:,} rows and {MAX_CELLS:,} values; the table has at least "
            f"{rows:,} rows of {columns:,} columns. Upload a sample of it."
        )


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
