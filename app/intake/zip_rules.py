"""What any zip from outside must be, before its list of members is believed."""

import struct
import zipfile
from typing import IO

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64_BYTES = 20
_LOCAL_HEADER_BYTES = 30
_MAX_COMMENT_BYTES = 65_535


def directory(file: IO[bytes]) -> tuple[int, int]:
    """How many members the table of contents lists, and its bytes, before it is read.

    Raises:
        zipfile.BadZipFile: there is none.
    """
    length = file.seek(0, 2)
    tail_bytes = min(length, _END.size + _MAX_COMMENT_BYTES + _LOCATOR_64_BYTES + _END_64.size)
    file.seek(length - tail_bytes)
    tail = file.read(tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise zipfile.BadZipFile("its table of contents is missing")
    *_, count, size, _, _ = _END.unpack_from(tail, at)
    at_64 = at - _LOCATOR_64_BYTES - _END_64.size
    if at_64 >= 0 and tail[at_64 : at_64 + 4] == b"PK\x06\x06":
        *_, count, size, _ = _END_64.unpack_from(tail, at_64)
    return int(count), int(size)


def misplaced(archive: zipfile.ZipFile) -> str | None:
    """What lies in front of the first member, or two members that share bytes; else `None`.

    Bytes in front make a file that other programs take for something else; members that share
    bytes let a small file unpack to any size.
    """
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if infos and infos[0].header_offset > 0:
        return f"{infos[0].header_offset:,} bytes in front of its first member"
    end = 0
    for info in infos:
        if info.header_offset < end:
            return f"members that share bytes ({info.filename[:100]!r} and the one before)"
        name_bytes = len(info.orig_filename.encode("utf-8", "replace"))
        end = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + info.compress_size
    return None


def has_tail(file: IO[bytes]) -> bool:
    """Whether anything follows the table of contents: a comment, or bytes of another file."""
    length = file.seek(0, 2)
    file.seek(max(0, length - _END.size))
    return file.read(4) != b"PK\x05\x06"
