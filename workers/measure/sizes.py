"""Bytes of a file, as it is and deflated."""

import zlib
from pathlib import Path

CHUNK = 1024 * 1024


def compressed_bytes(path: Path) -> int:
    """Size after DEFLATE level 6, streamed: what a zip, an APK or HTTP compression makes of it."""
    squeeze = zlib.compressobj(6)
    total = 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            total += len(squeeze.compress(data))
    return total + len(squeeze.flush())
