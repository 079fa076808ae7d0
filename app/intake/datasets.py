"""Static reading of uploaded data sets: what the file is, checked before anything trusts it.

Nothing is unpacked to disk and no array is ever held whole: headers first, then one pass in
chunks. What cannot be read is refused with a sentence.
"""

import errno
import math
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from app.domain.dataset import ALL, DatasetFormat, DatasetInfo, DatasetOptions, listed
from app.domain.errors import InvalidDataset
from app.intake import zip_rules
from app.intake.images import inspect_images
from app.intake.npz import inspect_npz
from app.intake.tables import inspect_table

EXPECTED = (
    "Expected an .npz of arrays, a .csv or .parquet table, or a .zip of images in class folders"
)
MAX_MEMBERS = 200_000
MAX_DIRECTORY_BYTES = 64 * 2**20
MAX_EXPANDED_BYTES = 64 * 2**30
MAX_RATIO = 200
RATIO_FREE_BYTES = 256 * 2**20
"""Below this no ratio matters: what it expands to is small."""

_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    ValueError,
)

# Files that people send by mistake, and what they meant to send.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (
        b"\x93NUMPY",
        "is a single .npy array; pack x and y with numpy.savez(path, x=x, y=y)",
    ),
    (b"\x1f\x8b", "is compressed with gzip; unpack it and upload what is inside"),
    (
        b"\x89HDF\r\n\x1a\n",
        "is HDF5; a data set is stored with numpy.savez(path, x=x, y=y)",
    ),
    (
        b"\x80\x04",
        "is a Python pickle, which is never read; store arrays with numpy.savez",
    ),
    (
        b"\x80\x05",
        "is a Python pickle, which is never read; store arrays with numpy.savez",
    ),
    (b"BZh", "is compressed with bzip2; unpack it and upload what is inside"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it and upload what is inside"),
    (b"7z\xbc\xaf", "is a 7z archive; make it a .zip"),
    (b"Rar!", "is a RAR archive; make it a .zip"),
)
_OPTION_FORMATS: dict[str, tuple[DatasetFormat, ...]] = {
    "target": ("csv", "parquet"),
    "image_size": ("images",),
    "color": ("images",),
}


def inspect_dataset(path: Path, filename: str, options: DatasetOptions) -> DatasetInfo:
    """Read what a data set holds, without TensorFlow and without trusting it.

    Args:
        path: where the upload lies.
        filename: the name the user gave it; only its ending counts, and the content goes first.
        options: how the user wants it read.

    Raises:
        InvalidDataset: it cannot be read, with what was expected, what came and what to do.
    """
    suffix = Path(filename).suffix.lower()
    kind = _detect(path, suffix)
    if kind == "zip":
        with open_archive(path) as archive:
            kind = _kind_of_archive(archive, suffix)
            _check_options(kind, options)
            read = inspect_npz if kind == "npz" else inspect_images
            info = read(archive, options)
    else:
        _check_options(kind, options)
        info = inspect_table(path, kind, options)
    _check_enough_samples(info)
    return info


def _detect(path: Path, suffix: str) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise InvalidDataset(f"{EXPECTED}; the file is empty. Upload it again.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK"):
        return "zip"
    for magic, said in _MAGIC:
        if head.startswith(magic):
            raise InvalidDataset(f"{EXPECTED}; the file {said}.")
    if head[257:262] == b"ustar":
        raise InvalidDataset(f"{EXPECTED}; the file is a tar archive; make it a .zip.")
    if suffix == ".csv":
        return "csv"
    if suffix in (".npz", ".zip", ".parquet"):
        raise InvalidDataset(
            f"{EXPECTED}; the file is named {suffix}, but its content is something else or was "
            "cut off at its beginning. Upload the original file again."
        )
    raise InvalidDataset(
        f"{EXPECTED}; the file is none of these"
        f"{f' (its name ends in {listed([suffix])})' if suffix else ''}. Convert it to one of "
        "them; a text table needs a name that ends in .csv."
    )


def _kind_of_archive(archive: zipfile.ZipFile, suffix: str) -> DatasetFormat:
    names = [info.filename for info in archive.infolist()]
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if not names or suffix == ".npz":
        raise InvalidDataset(
            f"{EXPECTED}; the archive holds {len(names)} files and no array. Store arrays with "
            "numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
        )
    if "config.json" in names and "metadata.json" in names:
        raise InvalidDataset(f"{EXPECTED}; the file is a Keras model. Upload models to /v1/models.")
    if "[Content_Types].xml" in names:
        raise InvalidDataset(
            f"{EXPECTED}; the file is an office document. Save the sheet as .csv and upload that."
        )
    tables = [name for name in names if name.lower().endswith((".csv", ".parquet"))]
    if tables:
        raise InvalidDataset(
            f"{EXPECTED}; the archive holds tables: {listed(tables)}. Upload the table itself, "
            "not zipped."
        )
    return "images"


def _check_options(kind: str, options: DatasetOptions) -> None:
    for name, formats in _OPTION_FORMATS.items():
        if getattr(options, name) is not None and kind not in formats:
            raise InvalidDataset(
                f"options.{name} is for {' and '.join(formats)}; the file is {kind}. "
                "Leave the option out.",
                field=f"options.{name}",
            )
    scale = options.scale
    if scale is not None and not (math.isfinite(scale) and 1e-12 <= scale <= 1e12):
        raise InvalidDataset(
            f"options.scale must lie between 1e-12 and 1e12; it is {scale}. For 8-bit pixels "
            "it is usually 1/255 = 0.00392156862745098.",
            field="options.scale",
        )


def _check_enough_samples(info: DatasetInfo) -> None:
    """One sample at least must be left for each of training, validation and test."""
    source = ALL if ALL in info.splits else "train"
    needed = 1 + ("test" not in info.splits) + ("validation" not in info.splits)
    if info.splits[source].samples < needed:
        raise InvalidDataset(
            f"Expected at least {needed} samples to train, validate and test with; split "
            f'"{source}" has {info.splits[source].samples}. Add samples.'
        )


# --- zip ---------------------------------------------------------------------------------------
@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip at `path` with its directory checked; what breaks while reading it is refused.

    Raises:
        InvalidDataset: damaged, encrypted, over a limit, or with members of unsafe names.
    """
    try:
        with path.open("rb") as file:
            _check_directory_size(file)
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, path.stat().st_size)
                yield archive
    except (*_BROKEN, OSError) as error:
        # A damaged table of contents makes zipfile seek to where no file begins.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise InvalidDataset(
            f"The archive is damaged or was cut off ({str(error)[:200] or type(error).__name__}). "
            "Upload the original file again."
        ) from error


def _check_directory_size(file: IO[bytes]) -> None:
    """Refuse a huge table of contents before it is read into memory."""
    count, size = zip_rules.directory(file)
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise InvalidDataset(
            f"Expected at most {MAX_MEMBERS:,} files in an archive; this one lists {count:,} "
            f"in a table of contents of {size:,} bytes. Pack the samples into an .npz."
        )


def _check_members(archive: zipfile.ZipFile, archive_bytes: int) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InvalidDataset(
            f"Expected at most {MAX_MEMBERS:,} files in an archive; this one has "
            f"{len(members):,}. Pack the samples into an .npz."
        )
    seen: set[str] = set()
    for info in members:
        _check_member(info)
        if info.filename in seen:
            raise InvalidDataset(
                f"The archive holds {listed([info.filename])} twice; make it again with one each."
            )
        seen.add(info.filename)
    if (found := zip_rules.misplaced(archive)) is not None:
        raise InvalidDataset(f"The archive holds {found}; make it again with an ordinary program.")
    expanded = sum(info.file_size for info in members)
    if expanded > MAX_EXPANDED_BYTES:
        raise InvalidDataset(
            f"Expected an archive that expands to at most {MAX_EXPANDED_BYTES:,} bytes; this one "
            f"declares {expanded:,}. Upload fewer or smaller samples."
        )
    if expanded > RATIO_FREE_BYTES and expanded > MAX_RATIO * archive_bytes:
        raise InvalidDataset(
            f"Expected an archive that expands to at most {MAX_RATIO} times its size; this one "
            f"has {archive_bytes:,} bytes and declares {expanded:,}. Store it without "
            "compression (numpy.savez instead of numpy.savez_compressed)."
        )


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.removesuffix("/").split("/")
    unsafe = (
        ".." in parts
        or "" in parts
        or "\\" in info.orig_filename
        or "\0" in info.orig_filename
        or re.match(r"[A-Za-z]:", name)
    )
    if unsafe:
        raise InvalidDataset(
            f"The archive holds a file named {listed([info.orig_filename])}, which points outside "
            'of it or is not a plain path. Use relative names with "/" only.'
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidDataset(
            f"The archive holds a symbolic link, {listed([name])}; pack the file itself."
        )
    if info.flag_bits & 0x41:
        raise InvalidDataset(
            f"The archive is encrypted ({listed([name])}); upload it without a password."
        )
    if info.compress_type not in _COMPRESSIONS:
        raise InvalidDataset(
            f"The archive packs {listed([name])} with a method other than deflate; make it again "
            "with an ordinary zip program, or store it without compression."
        )
