"""Arrays in .npz files: what is read of them, and what is refused."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.errors import InvalidDataset
from app.intake import npz
from app.intake.datasets import inspect_dataset

X = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
Y = np.array([0, 1, 2, 0, 1, 2])
XF = X.astype(np.float32)


def inspect(path: Path, **options: Any) -> DatasetInfo:
    return inspect_dataset(path, path.name, DatasetOptions(**options))


def refusal(path: Path, **options: Any) -> InvalidDataset:
    with pytest.raises(InvalidDataset) as caught:
        inspect(path, **options)
    return caught.value


def save(path: Path, *, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_stored_splits(file: Path, compressed: bool) -> None:
    save(
        file, compressed=compressed,
        x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3], x_val=X[:2], y_val=Y[:2],
    )  # fmt: skip
    info = inspect(file, scale=1 / 255)
    assert info.format == "npz"
    assert {name: split.samples for name, split in info.splits.items()} == {
        "train": 6,
        "validation": 2,
        "test": 3,
    }
    (x,), (y,) = info.splits["train"].inputs, info.splits["train"].targets
    assert (x.name, x.shape, x.dtype, x.value_range) == ("x", (4,), "uint8", (0, 23))
    assert (y.name, y.shape, y.dtype, y.value_range) == ("y", (), "int64", (0, 2))
    assert info.classes == ("0", "1", "2")
    assert info.label_range == (0, 2)
    assert info.options.scale == 1 / 255


def test_reads_text_labels_as_sorted_classes(file: Path) -> None:
    save(file, x=XF, y=np.array(["dog", "cat", "dog", "emu", "cat", "emu"]))
    info = inspect(file)
    assert info.classes == ("cat", "dog", "emu")
    assert info.label_range is None
    assert info.splits["all"].targets[0].dtype == "str"


def test_reads_inputs_and_outputs_by_name(file: Path) -> None:
    arrays: dict[str, Any] = {"x.left": X, "x.right": XF, "y.a": Y, "y.b": XF}
    save(file, **arrays)
    split = inspect(file).splits["all"]
    assert [array.name for array in split.inputs] == ["left", "right"]
    assert [array.name for array in split.targets] == ["a", "b"]


@pytest.mark.parametrize("dtype", ["bool", ">i2", "uint64", "float16", ">f8", "int8"])
def test_accepts_every_number_type_and_byte_order(file: Path, dtype: str) -> None:
    save(file, x=X.astype(dtype), y=Y)
    assert inspect(file).splits["all"].inputs[0].dtype == np.dtype(dtype).name


def test_regression_targets_have_no_classes(file: Path) -> None:
    info = inspect(save(file, x=X, y=Y / 2))
    assert (info.classes, info.label_range) == (None, None)


def test_integer_targets_beyond_any_class_count_keep_their_range(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "MAX_CLASSES", 2)
    info = inspect(save(file, x=X, y=Y))
    assert (info.classes, info.label_range) == (None, (0, 2))


def test_reads_in_chunks_what_is_larger_than_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "CHUNK_BYTES", 20)
    save(file, compressed=True, x=XF, y=np.array(["b", "a", "b", "c", "a", "longest"]))
    assert inspect(file).classes == ("a", "b", "c", "longest")
    bad = XF.copy()
    bad[4, 1] = np.nan
    assert "first in sample 4" in refusal(save(file, x=bad, y=Y)).detail


def with_value(value: float) -> np.ndarray[Any, Any]:
    array = XF.astype(np.float64)
    array[2, 3] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": X, "x_test": X, "y_test": Y}, "Add y_train: the targets"),
        ({"y": Y}, "Add x: the inputs"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "Add y_test"),
        ({"x_test": X, "y_test": Y}, "Add x_train and y_train"),
        ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "mixes both ways"),
        ({"x": X, "y": Y, "names": Y}, 'key "names" is none of these'),
        ({"x_tset": X, "y": Y}, 'key "x_tset" is none of these'),
        (
            {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y, "x_validation": X},
            "mean the same array",
        ),
        ({"x": X, "y": Y[:5]}, '"x" has 6 samples, "y" 5'),
        ({"x": X[:0], "y": Y[:0]}, "at least one of each axis"),
        ({"x": np.float32(3), "y": Y}, "shape ()"),
        ({"x": X[:2], "y": Y[:2]}, "at least 3 samples"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y},
            '"x_test" has samples of shape (3,)',
        ),
        (
            {"x_train": XF, "y_train": Y, "x_test": X, "y_test": Y},
            "Prepare all splits in the same way",
        ),
        ({"x_train.a": X, "y_train": Y, "x_test.b": X, "y_test": Y}, 'Split "test" names "b" in x'),
        ({"x": X.astype(np.complex64), "y": Y}, "it holds complex64"),
        ({"x": X.astype("datetime64[s]"), "y": Y}, "it holds datetime64"),
        ({"x": X.astype(str), "y": Y}, '.astype("float32")'),
        ({"x": X, "y": Y.astype(bytes)}, ".astype(str)"),
        ({"x": X.astype(np.longdouble), "y": Y}, "at most 64 bits"),
        ({"x": X, "y": np.zeros(6, dtype=[("a", "i4")])}, "text labels"),
        ({"x": X, "y": np.array([["a", "b"]] * 6)}, "one label per sample"),
        ({"x": X, "y": np.array(["a", "", "b", "a", "b", "a"])}, "class names"),
        ({"x": X, "y": np.array(["a\n", "b", "b", "a", "b", "a"])}, "printable"),
        ({"x": X, "y": np.array(["a" * 201] * 6)}, "up to 201 characters"),
        ({"x": X, "y.a": Y.astype(str), "y.b": Y}, "one output only"),
        ({"x": with_value(np.nan), "y": Y}, '"x" holds NaN'),
        ({"x": with_value(np.inf), "y": Y}, "first in sample 2"),
        ({"x": with_value(-1e300), "y": Y}, "too large for float32"),
        ({"x": X, "y": with_value(np.nan)}, '"y" holds NaN'),
        ({"x": np.asfortranarray(with_value(np.nan)), "y": Y}, '"x" holds NaN'),
    ],
)
def test_refuses(file: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(save(file, **arrays)).detail


@pytest.mark.parametrize("option", [{"target": "y"}, {"image_size": (8, 8)}, {"color": "rgb"}])
def test_refuses_options_of_other_formats(file: Path, option: dict[str, Any]) -> None:
    error = refusal(save(file, x=X, y=Y), **option)
    assert error.field == f"options.{next(iter(option))}"


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_refuses_a_scale_that_loses_everything(file: Path, scale: float) -> None:
    assert refusal(save(file, x=X, y=Y), scale=scale).field == "options.scale"


# --- hostile files -----------------------------------------------------------------------------
class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was read",))


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def raw_npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + body


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_refuses_pickled_objects_by_name_and_never_reads_them(file: Path) -> None:
    objects = raw_npy(
        "{'descr': '|O', 'fortran_order': False, 'shape': (6,)}\n", pickle.dumps([Bomb()] * 6)
    )
    error = refusal(pack(file, x=objects, y=npy(Y)))
    assert error.detail.startswith('"x" must hold')
    assert "Python objects are never read" in error.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not an array at all",
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n", b"\0" * 24),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 6)}\n", b"\0" * 24),
        raw_npy("{'descr': '<f4', 'fortran_order': False}\n"),
        raw_npy("{'descr': 'no type', 'fortran_order': False, 'shape': (6,)}\n"),
        raw_npy("{'descr': ('<f4', (10**9,)), 'fortran_order': False, 'shape': (6,)}\n"),
        raw_npy("__import__('os').abort()\n"),
        raw_npy("[" * 9000 + "]" * 9000 + "\n"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n", b"", b"\x09\x00"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}\n", b"12"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 500 + ",)}\n"),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n", b"\0" * 23),
        raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n", b"\0" * 25),
        raw_npy("{'descr': '<U0', 'fortran_order': False, 'shape': (6,)}\n"),
        raw_npy("{'descr': '|V0', 'fortran_order': False, 'shape': (6,)}\n"),
    ],
)
def test_refuses_lying_headers(file: Path, content: bytes) -> None:
    assert '"x"' in refusal(pack(file, x=content, y=npy(Y))).detail


def test_refuses_code_points_that_are_none(file: Path) -> None:
    labels = raw_npy("{'descr': '<U1', 'fortran_order': False, 'shape': (6,)}\n", b"\xff" * 24)
    assert refusal(pack(file, x=npy(X), y=labels)).fault == "client"


def test_refuses_an_archive_that_expands_without_end(file: Path) -> None:
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as member,
    ):
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 50331648)}\n"
        member.write(raw_npy(header))
        for _ in range(6 * 48):
            member.write(bytes(2**20))
    assert "expands to at most 200 times" in refusal(file).detail


def test_refuses_a_tiny_archive_that_declares_a_huge_member(file: Path) -> None:
    pack(file, x=npy(X), y=npy(Y))
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = (4_000_000_000).to_bytes(4, "little")
    file.write_bytes(content)
    assert "declares 4,000,000" in refusal(file).detail


def test_refuses_a_member_that_holds_less_than_it_declares(file: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}\n"
    pack(file, x=raw_npy(header, b"\0" * 4), y=npy(Y))
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02")
    size = len(raw_npy(header)) + 24
    content[at + 24 : at + 28] = size.to_bytes(4, "little")
    file.write_bytes(content)
    assert "damaged or was cut off" in refusal(file).detail


@pytest.mark.parametrize("compressed", [False, True])
def test_refuses_a_flipped_byte_within_an_array(file: Path, compressed: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 400), dtype=np.uint8)
    save(file, compressed=compressed, x=noise, y=Y)
    content = bytearray(file.read_bytes())
    content[900] ^= 0x55
    file.write_bytes(content)
    assert "damaged" in refusal(file).detail


def test_refuses_strangers_among_the_arrays(file: Path) -> None:
    save(file, x=X, y=Y)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("evil.pkl", b"")
    assert '"evil.pkl"' in refusal(file).detail
