"""Reading a `.keras` archive: a zip with metadata.json, config.json and model.weights.h5.

The file comes from outside. Names, sizes, compression ratios and checksums are looked at before
anything is believed, and nothing is extracted but compressed weights, into a temporary folder.
"""

import io
import re
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from app.domain.errors import InvalidModel
from app.intake import zip_rules
from app.intake.config import CONFIG_LIMIT_BYTES
from app.intake.magic import SAVE_ADVICE

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

METADATA_LIMIT_BYTES = 2**20
MEMBER_LIMIT = 1_000
DIRECTORY_LIMIT_BYTES = 2**20
TOTAL_LIMIT_BYTES = 16 * 2**30
RATIO_FLOOR_BYTES = 16 * 2**20
RATIO_LIMIT = 100
"""Keras stores its members uncompressed; trained weights shrink by far less than this."""

ASSET_LIMIT_BYTES = 64 * 2**20
_ASSET = re.compile(r"assets/([A-Za-z0-9_.-]{1,200}/){0,20}([A-Za-z0-9_.-]{1,200})?")
_CHUNK_BYTES = 2**20
_LOCAL_HEADER_BYTES = 30


class KerasArchive:
    """An opened `.keras` archive whose members have been looked over.

    Raises:
        InvalidModel: the zip is damaged, hostile, or holds something else than a Keras model.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        try:
            check_directory(file)
            self._zip = zipfile.ZipFile(file)
            check_members(self._zip)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise damaged(error) from error

    def config(self) -> bytes:
        """config.json, whole."""
        return self._read(CONFIG, CONFIG_LIMIT_BYTES)

    def metadata(self) -> bytes:
        """metadata.json, whole; an empty object where there is none."""
        if METADATA not in self._zip.namelist():
            return b"{}"
        return self._read(METADATA, METADATA_LIMIT_BYTES)

    def assets(self) -> tuple[str, ...]:
        """Names of the files under assets/."""
        names = self._zip.namelist()
        return tuple(n for n in names if n.startswith("assets/") and not n.endswith("/"))

    def member(self, name: str) -> IO[bytes]:
        """One member as a stream."""
        return self._zip.open(name)

    @contextmanager
    def weights(self, scratch: Path) -> Iterator[IO[bytes]]:
        """model.weights.h5 as a seekable file; it is read through once to prove its checksum.

        Args:
            scratch: folder for a temporary copy, used only where the member is compressed.
        """
        info = self._zip.getinfo(WEIGHTS)
        if info.compress_type == zipfile.ZIP_STORED:
            self._stream(info, None)
            yield io.BufferedReader(_Slice(self._file, self._data_offset(info), info.file_size))
            return
        with tempfile.TemporaryFile(dir=scratch) as copy:
            self._stream(info, copy)
            copy.seek(0)
            yield copy

    def _read(self, name: str, limit: int) -> bytes:
        info = self._zip.getinfo(name)
        if info.file_size > limit:
            raise InvalidModel(
                f"{name} in the archive is {info.file_size} bytes; at most {limit} are read. "
                f"This is not a model that Keras wrote. {SAVE_ADVICE}"
            )
        content = io.BytesIO()
        self._stream(info, content)
        return content.getvalue()

    def _stream(self, info: zipfile.ZipInfo, sink: IO[bytes] | None) -> None:
        seen = 0
        try:
            with self._zip.open(info) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    seen += len(chunk)
                    if seen > info.file_size:
                        raise zipfile.BadZipFile(f"{info.filename} is longer than it says")
                    if sink is not None:
                        sink.write(chunk)
        except InvalidModel:
            raise
        except Exception as error:  # zlib, lzma and struct errors have no common class
            raise damaged(error) from error
        if seen != info.file_size:
            raise damaged(EOFError(f"{info.filename} ends early"))

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER_BYTES)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        return info.header_offset + _LOCAL_HEADER_BYTES + name_length + extra_length


class _Slice(io.RawIOBase):
    """A window of a file: zipfile's own reader rereads from the start at every backward seek."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), max(0, self._size - self._at))
        self._file.seek(self._start + self._at)
        chunk = self._file.read(count)
        buffer[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)


def damaged(error: BaseException) -> InvalidModel:
    """The sentence for an archive that cannot be read through."""
    return InvalidModel(
        f"The .keras archive is damaged or was cut short: {error}. "
        "Upload it again, or save the model again."
    )


def check_directory(file: IO[bytes]) -> None:
    """The table of contents, before it is read into memory.

    Raises:
        InvalidModel: it is larger than that of a Keras model, or something follows it.
    """
    count, size = zip_rules.directory(file)
    if count > MEMBER_LIMIT or size > DIRECTORY_LIMIT_BYTES:
        raise InvalidModel(
            f"The archive has {count:,} members in a table of contents of {size:,} bytes; a Keras "
            f"model has a handful. {SAVE_ADVICE}"
        )
    if zip_rules.has_tail(file):
        raise InvalidModel(
            "The .keras archive is damaged or was cut short, or something follows it: it does not "
            "end with its table of contents. Upload it again, or save the model again."
        )


def check_members(archive: zipfile.ZipFile) -> None:
    """Look at the list of members only; nothing is unpacked.

    Raises:
        InvalidModel: the archive is not laid out as Keras lays it out, or would unpack to
            more than it may.
    """
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(names) > MEMBER_LIMIT:
        raise InvalidModel(f"The archive has {len(names)} members; a Keras model has a handful.")
    check_kind(set(names))
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InvalidModel(f"The archive holds {twice!r} twice, so it is not clear which counts.")
    for info in infos:
        check_member(info)
    if (found := zip_rules.misplaced(archive)) is not None:
        raise InvalidModel(f"The archive holds {found}; Keras writes none. {SAVE_ADVICE}")
    total = sum(info.file_size for info in infos)
    if total > TOTAL_LIMIT_BYTES:
        raise InvalidModel(
            f"The archive unpacks to {total} bytes; at most {TOTAL_LIMIT_BYTES} are accepted."
        )


def check_kind(names: set[str]) -> None:
    """Tell a Keras model from the other zips that people upload.

    Raises:
        InvalidModel: config.json or the weights are missing.
    """
    if any(name.endswith("saved_model.pb") for name in names):
        raise InvalidModel(
            "The archive holds a TensorFlow SavedModel; a Keras model with its config is needed. "
            f"Load it in Keras where it was made. {SAVE_ADVICE}"
        )
    if CONFIG not in names and WEIGHTS in names:
        raise InvalidModel(
            f"The archive holds weights but no {CONFIG}, so the layers are not known. {SAVE_ADVICE}"
        )
    if CONFIG not in names:
        raise InvalidModel(
            f"The file is a zip archive but not a Keras model: it holds no {CONFIG}. {SAVE_ADVICE}"
        )
    if WEIGHTS not in names:
        raise InvalidModel(
            f"The archive holds {CONFIG} but no {WEIGHTS}, so there is nothing to prune. "
            f"{SAVE_ADVICE}"
        )


def check_member(info: zipfile.ZipInfo) -> None:
    """Name, encryption and compression ratio of one member.

    Raises:
        InvalidModel: the member is one that Keras would not have written.
    """
    name = info.filename
    known = name in {CONFIG, METADATA, WEIGHTS} or _ASSET.fullmatch(name)
    if not known or ".." in name.split("/") or name != info.orig_filename:
        raise InvalidModel(
            f"The archive holds {name[:100]!r}, which is no part of a Keras model. {SAVE_ADVICE}"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidModel(f"{name!r} in the archive is a symbolic link. {SAVE_ADVICE}")
    if name.startswith("assets/") and info.file_size > ASSET_LIMIT_BYTES:
        raise InvalidModel(
            f"{name!r} in the archive has {info.file_size:,} bytes; a vocabulary may have "
            f"{ASSET_LIMIT_BYTES:,}. {SAVE_ADVICE}"
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidModel(
            f"{name!r} in the archive is packed with a method other than deflate. {SAVE_ADVICE}"
        )
    if info.flag_bits & 0x41:
        raise InvalidModel(f"{name!r} in the archive is encrypted. {SAVE_ADVICE}")
    if info.file_size > max(RATIO_FLOOR_BYTES, RATIO_LIMIT * info.compress_size):
        raise InvalidModel(
            f"{name!r} in the archive would unpack from {info.compress_size} to "
            f"{info.file_size} bytes; no trained model compresses like that. {SAVE_ADVICE}"
        )
