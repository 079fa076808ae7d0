"""Images in class folders: what is read of them, and what is refused."""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.domain.dataset import DatasetInfo, DatasetOptions
from app.domain.errors import InvalidDataset
from app.intake import datasets, images
from app.intake.datasets import inspect_dataset


def picture(
    size: tuple[int, int] = (5, 4), mode: str = "RGB", kind: str = "PNG", value: int = 0
) -> bytes:
    """An encoded image; size is (width, height)."""
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind)
    return buffer.getvalue()


def pack(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def inspect(path: Path, **options: Any) -> DatasetInfo:
    return inspect_dataset(path, path.name, DatasetOptions(**options))


def refusal(path: Path, **options: Any) -> InvalidDataset:
    with pytest.raises(InvalidDataset) as caught:
        inspect(path, **options)
    return caught.value


RGB = picture()
PLAIN = {"cat/1.png": RGB, "cat/2.png": RGB, "dog/1.png": RGB, "dog/2.PNG": RGB}
SPLIT = {f"{split}/{name}": RGB for split in ("train", "test") for name in PLAIN}


@pytest.mark.parametrize("root", ["", "photos/", "a/b/"])
def test_reads_class_folders(tmp_path: Path, root: str) -> None:
    info = inspect(pack(tmp_path, {root + name: content for name, content in PLAIN.items()}))
    assert info.format == "images"
    assert info.classes == ("cat", "dog")
    split = info.splits["all"]
    assert split.samples == 4
    (x,), (y,) = split.inputs, split.targets
    assert (x.name, x.shape, x.dtype) == ("x", (4, 5, 3), "uint8")
    assert (y.name, y.shape, y.dtype) == ("y", (), "str")


@pytest.mark.parametrize("root", ["", "photos/"])
@pytest.mark.parametrize("folder", ["val", "validation", "Validation"])
def test_reads_split_folders(tmp_path: Path, root: str, folder: str) -> None:
    members = {**SPLIT, f"{folder}/cat/9.png": RGB}
    info = inspect(pack(tmp_path, {root + name: content for name, content in members.items()}))
    assert {name: split.samples for name, split in info.splits.items()} == {
        "train": 4,
        "validation": 1,
        "test": 4,
    }


def test_ignores_hidden_and_system_files(tmp_path: Path) -> None:
    extra = {
        "__MACOSX/cat/._1.png": b"", "cat/.DS_Store": b"", "cat/Thumbs.db": b"", "cat/": b"",
    }  # fmt: skip
    assert inspect(pack(tmp_path, PLAIN | extra)).splits["all"].samples == 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_reads_four_formats_by_content(tmp_path: Path, kind: str) -> None:
    assert inspect(pack(tmp_path, dict.fromkeys(PLAIN, picture(kind=kind)))).classes


def test_options_settle_what_differs(tmp_path: Path) -> None:
    members = PLAIN | {"dog/3.png": picture((7, 9), "L"), "dog/4.png": picture((1, 2), "P")}
    info = inspect(pack(tmp_path, members), image_size=(8, 6), color="grayscale")
    assert info.splits["all"].inputs[0].shape == (8, 6, 1)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_colour_stays_as_stored(tmp_path: Path, mode: str, channels: int) -> None:
    info = inspect(pack(tmp_path, dict.fromkeys(PLAIN, picture(mode=mode))))
    assert info.splits["all"].inputs[0].shape == (4, 5, channels)


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("members", "said", "field"),
    [
        ({"1.png": RGB, "2.png": RGB}, 'lie elsewhere: "1.png"', None),
        (PLAIN | {"cat/x/1.png": RGB}, 'lie elsewhere: "cat/x/1.png"', None),
        (PLAIN | {"notes.txt": b"hello"}, '"notes.txt"', None),
        (PLAIN | {"cat/labels.json": b"{}"}, '"cat/labels.json"', None),
        ({name: RGB for name in PLAIN if "cat" in name}, 'only one class: "cat"', None),
        (PLAIN | {"train/1.png": RGB}, 'mixes split folders ("train")', None),
        ({f"test/{name}": RGB for name in PLAIN}, "no train folder", None),
        (SPLIT | {"test/emu/1.png": RGB}, 'that train has not: "emu"', None),
        (SPLIT | {"val/cat/1.png": RGB, "validation/cat/1.png": RGB}, "same split", None),
        (PLAIN | {"dog/3.png": picture((4, 5))}, '"dog/3.png" is 5 x 4', "options.image_size"),
        (PLAIN | {"dog/3.png": picture(mode="L")}, "is L. Give", "options.color"),
        (PLAIN | {"dog/3.png": picture(mode="P")}, "stored as P", "options.color"),
        (PLAIN | {"dog/3.png": picture(mode="I;16")}, "8 bits per channel", None),
        (PLAIN | {"dog/3.png": b"GIF89a not really"}, '"dog/3.png" cannot be read', None),
        (PLAIN | {"dog/3.png": b""}, '"dog/3.png" cannot be read', None),
        (PLAIN | {"dog/3.png": RGB[:20]}, '"dog/3.png" cannot be read', None),
        (PLAIN | {"dog/3.png": huge_png()}, '"dog/3.png"', None),
        ({".hidden": b""}, "holds no files", None),
        ({"cat/1.png": RGB, "dog/1.png": RGB}, "at least 3 samples", None),
        (PLAIN | {"a\tb/1.png": RGB}, "printable class names", None),
    ],
)
def test_refuses(tmp_path: Path, members: dict[str, bytes], said: str, field: str | None) -> None:
    error = refusal(pack(tmp_path, members))
    assert said in error.detail
    assert error.field == field


@pytest.mark.parametrize("size", [(0, 5), (5, 100_000)])
def test_refuses_an_impossible_size(tmp_path: Path, size: tuple[int, int]) -> None:
    assert refusal(pack(tmp_path, PLAIN), image_size=size).field == "options.image_size"


def test_refuses_more_pixels_than_can_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_DECODED_BYTES", 239)
    assert "240 bytes decoded" in refusal(pack(tmp_path, PLAIN)).detail


def test_refuses_an_image_of_too_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 10)
    assert "at most 10 bytes" in refusal(pack(tmp_path, PLAIN)).detail


# --- the archive itself ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    ["../cat/3.png", "/cat/3.png", "cat/../../3.png", "cat\\3.png", "C:/cat/3.png", "cat//3.png"],
)
def test_refuses_unsafe_names(tmp_path: Path, name: str) -> None:
    assert "points outside" in refusal(pack(tmp_path, PLAIN | {name: RGB})).detail


def test_refuses_symbolic_links(tmp_path: Path) -> None:
    path = pack(tmp_path, PLAIN)
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "symbolic link" in refusal(path).detail


def test_refuses_a_name_given_twice(tmp_path: Path) -> None:
    path = pack(tmp_path, PLAIN)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("cat/1.png", RGB)
    assert '"cat/1.png" twice' in refusal(path).detail


def test_refuses_encryption(tmp_path: Path) -> None:
    path = pack(tmp_path, PLAIN)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refusal(path).detail


def test_refuses_other_compressions(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", RGB)
    assert "other than deflate" in refusal(path).detail


@pytest.mark.parametrize("name", ["MAX_MEMBERS", "MAX_DIRECTORY_BYTES"])
def test_refuses_too_many_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(datasets, name, 3)
    assert "files in an archive" in refusal(pack(tmp_path, PLAIN)).detail


def test_refuses_to_expand_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MAX_EXPANDED_BYTES", 100)
    assert "at most 100 bytes" in refusal(pack(tmp_path, PLAIN)).detail
