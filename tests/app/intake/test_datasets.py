"""What kind of data set a file is; damage of every kind; what importing costs."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.errors import InvalidDataset
from app.intake.datasets import inspect_dataset
from tests.app.importing import loaded


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npz_file() -> bytes:
    buffer = io.BytesIO()
    x = np.random.default_rng(0).integers(0, 255, (20, 6), dtype=np.uint8)
    np.savez_compressed(buffer, x=x, y=np.arange(20) % 3)
    return buffer.getvalue()


def parquet_file() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(50)), "label": ["u", "v"] * 25}), buffer)
    return buffer.getvalue()


def images_file() -> bytes:
    picture = io.BytesIO()
    Image.new("L", (6, 6)).save(picture, "PNG")
    return zipped({f"{name}/{i}.png": picture.getvalue() for name in "ab" for i in range(3)})


CSV = b"a,b,label\n" + b"".join(b"%d,%d.5,k%d\n" % (i, i, i % 2) for i in range(30))
FILES = {
    "npz": ("data.npz", npz_file(), DatasetOptions()),
    "parquet": ("data.parquet", parquet_file(), DatasetOptions(target="label")),
    "images": ("data.zip", images_file(), DatasetOptions()),
    "csv": ("data.csv", CSV, DatasetOptions(target="label")),
}
WRITTEN_WHOLE = ["npz", "parquet", "images"]
"""A table in text has no end mark: cut between two rows, it is a shorter table."""


def inspect(
    tmp_path: Path, name: str, content: bytes, options: DatasetOptions | None = None
) -> DatasetInfo:
    path = tmp_path / "upload"
    path.write_bytes(content)
    return inspect_dataset(path, name, options or DatasetOptions())


@pytest.mark.parametrize("kind", FILES)
def test_tells_the_formats_apart(tmp_path: Path, kind: str) -> None:
    info = inspect(tmp_path, *FILES[kind])
    assert info.format == kind
    assert DatasetInfo.model_validate_json(info.model_dump_json()) == info


@pytest.mark.parametrize("kind", WRITTEN_WHOLE)
def test_content_counts_more_than_the_name(tmp_path: Path, kind: str) -> None:
    _, content, options = FILES[kind]
    assert inspect(tmp_path, "upload.bin", content, options).format == kind


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npz", b"", "the file is empty"),
        ("a.npy", b"\x93NUMPY\x01\x00", "numpy.savez(path, x=x, y=y)"),
        ("a.csv.gz", b"\x1f\x8b\x08", "gzip"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("a.pkl", b"\x80\x05\x95", "pickle, which is never read"),
        ("a.tar", bytes(257) + b"ustar\0" + bytes(300), "tar archive"),
        ("a.parquet", b"hello", "named .parquet"),
        ("a.tsv", b"a\tb\n1\t2\n", '".tsv"'),
        ("noname", b"a,b\n1,2\n", "a name that ends in .csv"),
        ("a.zip", zipped({}), "0 files and no array"),
        ("a.npz", zipped({"cat/1.png": b""}), "no array"),
        ("a.keras", zipped({"config.json": b"", "metadata.json": b""}), "/v1/models"),
        ("a.xlsx", zipped({"[Content_Types].xml": b""}), "office document"),
        ("a.zip", zipped({"t/train.csv": b""}), "not zipped"),
    ],
)
def test_refuses_what_is_no_data_set(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(InvalidDataset) as caught:
        inspect(tmp_path, name, content)
    assert said in caught.value.detail


@pytest.mark.parametrize("cut", range(30))
@pytest.mark.parametrize("kind", WRITTEN_WHOLE)
def test_refuses_a_file_cut_off_anywhere(tmp_path: Path, kind: str, cut: int) -> None:
    name, content, options = FILES[kind]
    with pytest.raises(InvalidDataset):
        inspect(tmp_path, name, content[: len(content) * cut // 30], options)


@pytest.mark.parametrize("cut", range(30))
def test_a_csv_cut_off_is_refused_or_a_shorter_table(tmp_path: Path, cut: int) -> None:
    name, content, options = FILES["csv"]
    try:
        info = inspect(tmp_path, name, content[: len(content) * cut // 30], options)
    except InvalidDataset:
        return
    assert info.splits["all"].samples <= 30


def test_refuses_a_table_of_contents_that_points_before_the_file(tmp_path: Path) -> None:
    content = bytearray(FILES["npz"][1])
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (len(content) - 22).to_bytes(4, "little")
    with pytest.raises(InvalidDataset, match="damaged"):
        inspect(tmp_path, "data.npz", bytes(content))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(
        st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=8
    ),
)
def test_damage_is_refused_or_harmless_and_never_an_accident(
    tmp_path: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    name, content, options = FILES[kind]
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    try:
        info = inspect(tmp_path, name, bytes(damaged), options)
    except InvalidDataset:
        return
    assert info.format in FILES
    assert DatasetInfo.model_validate_json(info.model_dump_json()) == info


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("csv", {"target": "label", "image_size": (8, 8)}),
        ("parquet", {"target": "label", "color": "rgb"}),
        ("images", {"target": "label"}),
    ],
)
def test_refuses_options_of_other_formats(
    tmp_path: Path, kind: str, option: dict[str, Any]
) -> None:
    name, content, _ = FILES[kind]
    with pytest.raises(InvalidDataset) as caught:
        inspect(tmp_path, name, content, DatasetOptions(**option))
    assert caught.value.field == f"options.{list(option)[-1]}"


def test_importing_loads_neither_keras_nor_tensorflow() -> None:
    code = "import app.intake.datasets, app.intake.fit"
    assert loaded(code, {"keras", "tensorflow", "workers"}) == set()
