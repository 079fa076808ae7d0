"""Reading HDF5 files from outside: links, external storage and shape bombs are refused first."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from app.domain.errors import InvalidModel

OBJECT_LIMIT = 200_000
DEPTH_LIMIT = 100
ATTRIBUTE_LIMIT_BYTES = 64 * 2**20
BOMB_FLOOR_BYTES = 2**20
BOMB_RATIO = 200
"""Trained weights shrink by far less; only below the floor are zeros as good as nothing."""
TOTAL_FLOOR_BYTES = 16 * 2**20
CHUNK_LIMIT_BYTES = 64 * 2**20
NAMES_LIMIT_BYTES = 16 * 2**20
NAME_LIMIT = 1_000
DTYPES = frozenset(
    ["float16", "float32", "float64", "bool"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_FILTERS = frozenset([h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32])
TOTAL_LIMIT_BYTES = 16 * 2**30
BLOCK_ELEMENTS = 2**20
"""At most this many numbers of a dataset are in memory at once."""


@contextmanager
def opened(source: Path | IO[bytes]) -> Iterator[Any]:
    """An HDF5 file, looked over and open for reading.

    Raises:
        InvalidModel: the file is damaged, or reaches outside itself.
    """
    try:
        file = h5py.File(source, "r")
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidModel(
            f"The HDF5 file is damaged or was cut short: {error}. "
            "Upload it again, or save the model again."
        ) from error
    with file:
        check_tree(file)
        yield file


def check_tree(file: Any) -> None:
    """Walk every group and dataset once, without reading any data.

    Raises:
        InvalidModel: there are soft or external links, external or virtual datasets, or more
            data declared than is stored.
    """
    pending: list[tuple[Any, str, int]] = [(file, "", 0)]
    seen: set[int] = set()
    declared = 0
    stored = 0
    while pending:
        group, path, depth = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise InvalidModel(
                f"The HDF5 file holds the group {path or '/'} in two places, or within itself; a "
                "Keras model has a tree of groups. Save the model again."
            )
        seen.add(address)
        if depth > DEPTH_LIMIT:
            raise InvalidModel("The HDF5 file nests its groups deeper than any Keras model does.")
        for name in group:
            child = _child(group, name, f"{path}/{name}")
            if isinstance(child, h5py.Group):
                pending.append((child, f"{path}/{name}", depth + 1))
            elif isinstance(child, h5py.Dataset):
                at = h5py.h5o.get_info(child.id).addr
                if at in seen:
                    raise InvalidModel(
                        f"The HDF5 file holds the dataset {path}/{name} in two places; a Keras "
                        "model has a tree of groups. Save the model again."
                    )
                seen.add(at)
                declared += check_dataset(child, f"{path}/{name}")
                stored += int(child.id.get_storage_size())
            if len(pending) + len(seen) > OBJECT_LIMIT or declared > TOTAL_LIMIT_BYTES:
                raise InvalidModel("The HDF5 file declares more than this service reads.")
    if declared > max(TOTAL_FLOOR_BYTES, BOMB_RATIO * stored):
        raise InvalidModel(
            f"The HDF5 file declares {declared:,} bytes of numbers but stores {stored:,}; no "
            "trained model is like that. Save the model again."
        )


def _child(group: Any, name: str, path: str) -> Any:
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise InvalidModel(
            f"The HDF5 file holds a {type(link).__name__} at {path}; a Keras model has none, "
            "and links are not followed. Save the model again."
        )
    return group[name]


def check_dataset(dataset: Any, path: str) -> int:
    """What a dataset declares against what is stored.

    Returns:
        Its size in memory, in bytes.

    Raises:
        InvalidModel: the data are elsewhere, or not there.
    """
    if dataset.external or dataset.is_virtual:
        raise InvalidModel(
            f"The data of {path} lie in another file, which is not opened. Save the model again."
        )
    if dataset.shape is None:
        raise InvalidModel(f"The dataset {path} is empty.")
    _check_dtype(dataset, path)
    _check_packing(dataset, path)
    size = int(math.prod(dataset.shape)) * int(dataset.dtype.itemsize)
    stored = int(dataset.id.get_storage_size())
    if size > max(BOMB_FLOOR_BYTES, BOMB_RATIO * stored):
        raise InvalidModel(
            f"The dataset {path} declares {size:,} bytes but stores {stored:,}; no trained model "
            "is like that. Save the model again."
        )
    return size


def _check_dtype(dataset: Any, path: str) -> None:
    """Plain numbers; Keras keeps bfloat16, which HDF5 lacks, as two opaque bytes."""
    dtype = dataset.dtype
    opaque = dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2
    if dtype.subdtype is None and (opaque or dtype.name in DTYPES):
        return
    raise InvalidModel(
        f"The dataset {path} holds values of type {str(dtype)[:80]}; expected floats or integers "
        "of at most 64 bits, as Keras writes them. Save the model again."
    )


def _check_packing(dataset: Any, path: str) -> None:
    created = dataset.id.get_create_plist()
    filters = {created.get_filter(index)[0] for index in range(created.get_nfilters())}
    if filters - _FILTERS:
        raise InvalidModel(
            f"The dataset {path} is packed in a way that is not read here (filters "
            f"{sorted(filters - _FILTERS)}); Keras packs nothing, and gzip is understood. Save the "
            "model again."
        )
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if dataset.chunks and chunk > CHUNK_LIMIT_BYTES:
        raise InvalidModel(
            f"The dataset {path} is kept in chunks of {chunk:,} bytes; at most "
            f"{CHUNK_LIMIT_BYTES:,} are read at once. Save the model again."
        )


def text_attribute(group: Any, name: str) -> str | None:
    """A text attribute, `None` where there is none.

    Raises:
        InvalidModel: it is no text, or too long.
    """
    if name not in group.attrs:
        return None
    if h5py.h5a.open(group.id, name.encode()).get_storage_size() > ATTRIBUTE_LIMIT_BYTES:
        raise InvalidModel(f"The attribute {name} of the HDF5 file is too long.")
    value = group.attrs[name]
    if isinstance(value, np.ndarray) and value.shape == (1,):
        value = value[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if not isinstance(value, str) or len(value) > ATTRIBUTE_LIMIT_BYTES:
        raise InvalidModel(f"The attribute {name} of the HDF5 file is not a readable text.")
    return value


def names_attribute(group: Any, name: str) -> list[str]:
    """A list of names; long lists are split by Keras over name0, name1, ..."""
    if name in group.attrs:
        return _names(group, name)
    found: list[str] = []
    part = 0
    while f"{name}{part}" in group.attrs:
        found.extend(_names(group, f"{name}{part}"))
        part += 1
    return found


def _names(group: Any, name: str) -> list[str]:
    stored = h5py.h5a.open(group.id, name.encode())
    if math.prod(stored.shape or ()) * stored.dtype.itemsize > NAMES_LIMIT_BYTES:
        raise InvalidModel(f"The attribute {name} of the HDF5 file is too long.")
    values = np.asarray(group.attrs[name])
    if values.size and values.dtype.kind not in "SO":
        raise InvalidModel(f"The attribute {name} of the HDF5 file is not a list of names.")
    return [_text(item) for item in values.ravel()]


def _text(item: Any) -> str:
    text = item.decode("utf-8") if isinstance(item, bytes) else str(item)
    if len(text) > NAME_LIMIT:
        raise InvalidModel(f"The HDF5 file holds a name of {len(text):,} characters.")
    return text


def blocks(shape: tuple[int, ...], limit: int = BLOCK_ELEMENTS) -> Iterator[tuple[slice, ...]]:
    """Selections that cover an array, each of at most `limit` elements."""
    axis = 0
    while axis < len(shape) and math.prod(shape[axis + 1 :]) > limit:
        axis += 1
    if axis >= len(shape):
        yield ()
        return
    step = max(1, limit // max(1, math.prod(shape[axis + 1 :])))
    for outer in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*(slice(i, i + 1) for i in outer), slice(start, start + step))


def is_finite(dataset: Any) -> bool:
    """Whether every number of a dataset is finite; read block by block."""
    if dataset.attrs.get("dtype") == "bfloat16" or dataset.dtype.kind == "V":
        return all(_bfloat16_finite(dataset[selection]) for selection in blocks(dataset.shape))
    if dataset.dtype.kind != "f":
        return True
    return all(bool(np.isfinite(dataset[selection]).all()) for selection in blocks(dataset.shape))


def _bfloat16_finite(values: Any) -> bool:
    # bfloat16 is the upper half of a float32: all exponent bits set means NaN or infinity.
    bits = np.ascontiguousarray(values).view(np.uint16)
    return bool(((bits & 0x7F80) != 0x7F80).all())
