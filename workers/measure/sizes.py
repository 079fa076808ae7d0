"""Bytes of a file once it is compressed."""

import zlib
from pathlib import Path

import zstandard

CHUNK = 1024 * 1024


def compressed_bytes(path: Path) -> int:
    """Size after DEFLATE level 6, streamed: what a zip, an APK or HTTP compression makes of it."""
    squeeze = zlib.compressobj(6)
    total = 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            total += len(squeeze.compress(data))
    return total + len(squeeze.flush())


def zstd_bytes(path: Path) -> int:
    """Size after Zstandard level 3, its own default, streamed."""
    squeeze = zstandard.ZstdCompressor(level=3).compressobj()
    total = 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            total += len(squeeze.compress(data))
    return total + len(squeeze.flush())
