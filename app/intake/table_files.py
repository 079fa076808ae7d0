"""Opening a table: .csv and .parquet as column names and batches of rows, within limits."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from app.domain.dataset import listed
from app.domain.errors import InvalidDataset

MAX_COLUMNS = 10_000
MAX_ROWS = 50_000_000
MAX_CELLS = 2_000_000_000
MAX_RATIO = 200
RATIO_FREE_BYTES = 256 * 2**20
MAX_HEADER_BYTES = 2 * 2**20
BLOCK_BYTES = 8 * 2**20
BATCH_CELLS = 2**20

# Arrow reports damage in any of these; Arrow's own base class covers the rest.
_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError)


@dataclass(frozen=True)
class Table:
    """Column names, and how to go through the rows; each batch has the columns in that order."""

    columns: tuple[str, ...]
    batches: Callable[[], Iterator[Any]]


def open_table(path: Path, kind: str) -> Table:
    """A table's columns, and its rows in batches.

    Raises:
        InvalidDataset: damaged, without a header, or over a limit.
    """
    path.stat()  # A file that is not there is no fault of the user's.
    with refusing(kind):
        table = _open_csv(path) if kind == "csv" else _open_parquet(path)
    _check_columns(table.columns)
    return table


@contextmanager
def refusing(kind: str) -> Iterator[None]:
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
    check_size(metadata.num_rows, metadata.num_columns)
    # pandas stores an unnamed row index as a column; it is no feature.
    names = tuple(name for name in file.schema_arrow.names if not name.startswith("__index_level_"))
    _check_width(metadata.num_columns)
    _check_expansion(metadata, path.stat().st_size)
    file.close()

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as opened:
            size = max(1, BATCH_CELLS // max(1, len(names)))
            for batch in opened.iter_batches(size, columns=list(names), use_threads=False):
                yield batch.select(list(names))

    return Table(names, batches)


def _check_expansion(metadata: Any, stored: int) -> None:
    """What the file unpacks to: runs of one value take no space in it, but all in memory."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    unpacked = max(sum(g.total_byte_size for g in groups), metadata.num_rows * 8)
    if unpacked > max(RATIO_FREE_BYTES, MAX_RATIO * stored):
        raise InvalidDataset(
            f"Expected a table that unpacks to at most {MAX_RATIO} times its size; this one has "
            f"{stored:,} bytes and {metadata.num_rows:,} rows, {unpacked:,} bytes unpacked. Upload "
            "a sample of it, or write it without compression."
        )


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


def check_size(rows: int, columns: int) -> None:
    """Raises InvalidDataset for a table over the limits."""
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise InvalidDataset(
            f"Expected at most {MAX_ROWS:,} rows and {MAX_CELLS:,} values; the table has at least "
            f"{rows:,} rows of {columns:,} columns. Upload a sample of it."
        )
