"""Tables: what is read of .csv and .parquet files, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.errors import InvalidDataset
from app.intake import table_files, tables
from app.intake.datasets import inspect_dataset

ROWS = "a,b,ok,label\n1,0.5,true,cat\n2,1.5,false,dog\n3,2,TRUE,cat\n"


def write(tmp_path: Path, content: str | bytes | dict[str, Any]) -> Path:
    """A .csv from text, a .parquet from columns."""
    if isinstance(content, dict):
        path = tmp_path / "table.parquet"
        pq.write_table(pa.table(content), path)
        return path
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def inspect(path: Path, target: str | None = "label") -> DatasetInfo:
    return inspect_dataset(path, path.name, DatasetOptions(target=target))


def refusal(path: Path, target: str | None = "label") -> InvalidDataset:
    with pytest.raises(InvalidDataset) as caught:
        inspect(path, target)
    return caught.value


PARQUET = {
    "a": [1, 2, 3],
    "b": [0.5, 1.5, 2.0],
    "ok": [True, False, True],
    "label": ["cat", "dog", "cat"],
}


@pytest.mark.parametrize("content", [ROWS, ROWS.replace("\n", "\r\n"), "\ufeff" + ROWS, PARQUET])
def test_reads_a_table(tmp_path: Path, content: Any) -> None:
    info = inspect(write(tmp_path, content))
    assert list(info.splits) == ["all"]
    assert info.splits["all"].samples == 3
    (x,), (y,) = info.splits["all"].inputs, info.splits["all"].targets
    assert (x.name, x.shape, x.dtype) == ("x", (3,), "float64")
    assert (y.name, y.shape, y.dtype) == ("y", (), "str")
    assert info.columns == ("a", "b", "ok")
    assert info.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("target", "classes", "label_range", "dtype"),
    [
        (["1", "3", "2"], ("1", "2", "3"), (1, 3), "int64"),
        (["true", "false", "true"], ("0", "1"), (0, 1), "bool"),
        (["1.0", "3", "2"], None, None, "float64"),
        (["1", "x", "2"], ("1", "2", "x"), None, "str"),
        ([" b", "a ", "b"], ("a", "b"), None, "str"),
        (["true", "1", "0"], ("0", "1", "true"), None, "str"),
    ],
)
@pytest.mark.parametrize("block_bytes", [2**20, 16])
def test_a_csv_column_is_what_fits_all_of_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: list[str], classes: Any,
    label_range: Any, dtype: str, block_bytes: int,
) -> None:  # fmt: skip
    # Blocks of a row or two: the type must not depend on where a block ends.
    monkeypatch.setattr(table_files, "BLOCK_BYTES", block_bytes)
    text = "a,label\n" + "".join(f"{row},{value}\n" for row, value in enumerate(target))
    info = inspect(write(tmp_path, text))
    assert (info.classes, info.label_range) == (classes, label_range)
    assert info.splits["all"].targets[0].dtype == dtype
    assert info.splits["all"].inputs[0].value_range == (0, 2)


@pytest.mark.parametrize("dtype", [pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.bool_()])
def test_reads_every_number_type_of_parquet(tmp_path: Path, dtype: Any) -> None:
    values = np.array([0, 1, 1], dtype=np.float16) if dtype == pa.float16() else [0, 1, 1]
    column = pa.array(values).cast(dtype)
    info = inspect(write(tmp_path, {"a": column, "label": [0, 1, 1]}))
    assert info.splits["all"].inputs[0].shape == (1,)


def test_reads_dictionary_labels_and_skips_the_pandas_index(tmp_path: Path) -> None:
    labels = pa.array(["u", "v", "u"]).dictionary_encode()
    info = inspect(
        write(tmp_path, {"a": [1, 2, 3], "label": labels, "__index_level_0__": [0, 1, 2]})
    )
    assert (info.classes, info.columns) == (("u", "v"), ("a",))


def test_whole_numbers_beyond_64_bits_become_floats(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, "a,label\n18446744073709551615,0\n1,1\n2,0\n"))
    assert info.splits["all"].inputs[0].dtype == "float64"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b,label\n1,,0\n2,,1\n,NaN,0\n", '"a" (1), "b" (3)'),
        ({"a": [1.0, None, float("nan")], "label": [0, 1, 0]}, '"a" (2)'),
        ({"a": [1, 2, 3], "label": [0, None, 0]}, '"label" (1)'),
        ({"a": pa.nulls(3), "label": [0, 1, 0]}, '"a" (3)'),
        ("a,town,label\n1,Ulm,0\n2,Bonn,1\n3,Ulm,0\n", 'hold text: "town"'),
        ({"a": [1, 2, 3], "town": list("xyz"), "label": [0, 1, 0]}, 'hold text: "town"'),
        ("a,label\n1,0\ntrue,1\n3,0\n", 'hold text: "a"'),
        ("a,label\n1,0\ninf,1\n3,0\n", "finite numbers"),
        ("a,label\n1,0\n1e300,1\n3,0\n", "finite numbers"),
        ({"a": [[1], [2], [3]], "label": [0, 1, 0]}, "list<"),
        ({"a": pa.array([1, 2, 3], pa.timestamp("s")), "label": [0, 1, 0]}, "timestamp"),
        ({"a": [1, 2, 3], "label": [b"x", b"y", b"x"]}, "label: binary"),
        ("a,a,label\n1,2,0\n", 'given twice: "a"'),
        (",a,label\n1,2,0\n", "Column 1 has no name"),
        ("a,label\n", "Expected rows"),
        ({"a": pa.array([], pa.int64()), "label": pa.array([], pa.int64())}, "Expected rows"),
        ("label\n1\n2\n", "at least one other"),
        ("a;b;label\n1;2;3\n", "semicolons"),
        ("a,label\n1,0\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"a,label\n1,\xff\xfe\n2,x\n3,x\n", "cannot be read"),
        (b"\xff\xfea\0,\0l\0", "zero bytes"),
        (b"\xe9,label\n1,0\n", "cannot be read"),
        (",".join(f"c{i}" for i in range(100_000)) + "\n", "at most 10,000 columns"),
        ("c" * 3 * 2**20, "first line"),
        ("c" * 200_000 + ",label\n1,2\n", "first line"),
        ("a,label\n1,0\n2,1\n", "at least 3 samples"),
        ("a,label\n1, \n2,x\n3,x\n", "class names"),
        ({f"c{i}": [1] for i in range(10_001)}, "at most 10,000 columns"),
    ],
)
def test_refuses(tmp_path: Path, content: Any, said: str) -> None:
    assert said in refusal(write(tmp_path, content)).detail


@pytest.mark.parametrize("content", [ROWS, PARQUET])
@pytest.mark.parametrize("target", [None, "price"])
def test_refuses_a_missing_target_and_lists_the_columns(
    tmp_path: Path, content: Any, target: str | None
) -> None:
    error = refusal(write(tmp_path, content), target)
    assert error.field == "options.target"
    assert '"a", "b", "ok", "label"' in error.detail


def test_says_when_the_column_names_are_missing(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "5.1,3.5,0\n4.9,3.0,1\n"), None)
    assert "the first line must hold the column names" in error.detail


def test_refuses_a_target_that_names_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_CLASSES", 2)
    error = refusal(write(tmp_path, "a,label\n1,x\n2,y\n3,z\n"))
    assert "different texts" in error.detail


@pytest.mark.parametrize("content", [ROWS, PARQUET])
def test_refuses_more_rows_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.setattr(table_files, "MAX_ROWS", 2)
    assert "at most 2 rows" in refusal(write(tmp_path, content)).detail


def test_a_file_that_is_gone_is_not_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        table_files.open_table(tmp_path / "gone.csv", "csv")
