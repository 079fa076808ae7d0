"""Sound files with something wrong somewhere: bytes, members, or a value of the config."""

import io
import json
import random
import zipfile
from typing import Any

from tests.hostile import files

KINDS = ("keras", "h5", "npz")
NONSENSE: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 2**31, 10**30, 0.5, "", "x", "relu", "../x", [], {}, [[[]]], [None]),
    *({"class_name": "Lambda", "config": {}}, {"class_name": "function", "config": "eval"}),
)


def sound(kind: str) -> bytes:
    """A file that is accepted."""
    if kind == "h5":
        return files.hdf5(lambda file: None)
    return files.SOUND if kind == "keras" else files.DATA


def mutated(kind: str, content: bytes, chance: random.Random) -> bytes:
    """The file with one to three things changed."""
    for _ in range(chance.randint(1, 3)):
        changes = [flipped, cut, doubled, overwritten]
        if kind == "keras":
            changes += [with_other_config, with_other_config, with_other_weights]
        elif kind == "h5":
            changes += [with_other_text]
        elif kind == "npz":
            changes += [with_other_member]
        content = chance.choice(changes)(content, chance)
    return content


def flipped(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def doubled(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start : start + chance.randrange(4096)] + content[start:]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    piece = chance.choice([b"\xff" * 8, b"\0" * 8, b"PK\x05\x06", chance.randbytes(16)])
    return content[:start] + piece + content[start + len(piece) :]


def with_other_config(content: bytes, chance: random.Random) -> bytes:
    """One value of the config swapped for nonsense."""

    def change(name: str, data: bytes) -> bytes:
        if name != files.CONFIG:
            return data
        config = json.loads(data)
        swap(config, chance)
        return json.dumps(config).encode()

    return _rewritten(content, change)


def with_other_weights(content: bytes, chance: random.Random) -> bytes:
    return _rewritten(
        content, lambda name, data: flipped(data, chance) if name == files.WEIGHTS else data
    )


def with_other_member(content: bytes, chance: random.Random) -> bytes:
    """Within an array's header, mostly: the zip stays whole."""

    def change(name: str, data: bytes) -> bytes:
        if chance.random() < 0.5:
            return data
        return flipped(data[:128], chance) + data[128:]

    return _rewritten(content, change)


def with_other_text(content: bytes, chance: random.Random) -> bytes:
    """Within the JSON config that the file holds as it is."""
    at = content.find(b'{"module"')
    end = content.find(b"\0", at)
    if at < 0 or end < 0:
        return content
    return content[:at] + flipped(content[at:end], chance) + content[end:]


def _rewritten(content: bytes, change: Any) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = [(name, archive.read(name)) for name in archive.namelist()]
        return files.zipped(*((name, change(name, data)) for name, data in found))
    except Exception:  # noqa: BLE001
        return content  # Broken by an earlier change already.


def swap(value: Any, chance: random.Random) -> None:
    """Replace one value somewhere inside by something of another kind."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.8:
            value = value[key]
            continue
        value[key] = chance.choice(NONSENSE)
        return
