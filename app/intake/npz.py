"""Static reading of .npz: headers first, then every array streamed through once, in chunks.

Keys: `x_train, y_train, x_test, y_test` (optional `x_val, y_val`), or `x, y`, which each job
splits by its own seed. Several inputs or outputs are named after a dot: `x_train.<input>`,
`y_train.<output>`, `x.<input>`, `y.<output>`.
"""

import math
import re
import sys
import tokenize
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from app.domain.dataset import (
    ALL,
    MAX_CLASSES,
    MAX_LABEL_CHARACTERS,
    SPLITS,
    TEXT,
    ArrayInfo,
    DatasetInfo,
    DatasetOptions,
    SplitInfo,
    class_names,
    listed,
)
from app.domain.errors import InvalidDataset

EXPECTED_KEYS = (
    "Expected keys x_train, y_train, x_test, y_test (and, if wanted, x_val, y_val), or x, y; "
    "several inputs as x_train.<input name>; without any y, the model's answers stand for them"
)
CHUNK_BYTES = 4 * 2**20
MAX_ARRAYS = 256
MAX_AXES = 8
FLOAT32_MAX = float(np.finfo(np.float32).max)

_KEY = re.compile(r"(x|y)(?:_(train|test|val|validation))?(?:\.(.{1,200}))?", re.DOTALL)


class Slot(NamedTuple):
    """What one array is: role "x" or "y", its split, and the input's or output's name."""

    role: str
    split: str
    name: str


@dataclass(frozen=True)
class _Entry:
    """One array's header. `shape` has the sample axis first."""

    key: str
    slot: Slot
    info: zipfile.ZipInfo
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool

    @property
    def family(self) -> str:
        kind = "integer" if self.dtype.kind in "biu" else "float"
        return "text" if self.dtype.kind == "U" else kind

    @property
    def is_label(self) -> bool:
        """One label per sample."""
        return self.slot.role == "y" and self.shape[1:] in ((), (1,)) and self.family != "float"


@dataclass(frozen=True)
class _Findings:
    """What streaming an array found: its range, and its distinct labels unless too many."""

    value_range: tuple[int, int] | None = None
    distinct: frozenset[Any] | None = None


def array_slots(keys: Iterable[str]) -> dict[Slot, str]:
    """Which array each key of an .npz holds.

    Raises:
        InvalidDataset: a key is not understood, or two keys mean the same array.
    """
    slots: dict[Slot, str] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None:
            raise InvalidDataset(
                f"{EXPECTED_KEYS}; key {listed([key])} is none of these. Rename or remove it."
            )
        role, split, name = match.groups()
        split = {None: ALL, "val": "validation"}.get(split, split)
        slot = Slot(role, split, role if name is None else name)
        if slot in slots:
            raise InvalidDataset(
                f"Keys {listed([slots[slot], key])} mean the same array. Keep one of them."
            )
        slots[slot] = key
    return slots


def inspect_npz(archive: zipfile.ZipFile, options: DatasetOptions) -> DatasetInfo:
    """Read an .npz whose zip directory has been checked.

    Raises:
        InvalidDataset: keys, shapes, types or values are not those of a data set.
    """
    entries = _read_entries(archive)
    splits = _check_splits(entries)
    _check_shapes(entries, splits)
    findings = {slot: _scan(archive, entry) for slot, entry in entries.items()}
    targets = [entry for entry in entries.values() if entry.slot.role == "y"]
    labels = [entry for entry in targets if entry.slot.name == targets[0].slot.name]
    single = 0 < len(labels) == len(targets)
    if any(entry.family == "text" for entry in targets) and not single:
        raise InvalidDataset(
            "Text labels are understood for one output only; this data set has several. Store "
            "the labels as integers."
        )
    ranges = [findings[entry.slot].value_range for entry in labels]
    known = [found for found in ranges if found is not None]
    return DatasetInfo(
        format="npz",
        splits={split: _split_info(entries, findings, split) for split in splits},
        classes=_classes([findings[entry.slot] for entry in labels]) if single else None,
        label_range=(min(low for low, _ in known), max(high for _, high in known))
        if single and known
        else None,
        options=options,
    )


# --- headers -----------------------------------------------------------------------------------
def _read_entries(archive: zipfile.ZipFile) -> dict[Slot, _Entry]:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) > MAX_ARRAYS:
        raise InvalidDataset(
            f"Expected at most {MAX_ARRAYS} arrays; the file has {len(infos):,}. Stack the "
            "samples into one array x and one array y."
        )
    strangers = [name for name in infos if not name.endswith(".npy")]
    if strangers:
        raise InvalidDataset(
            f"Expected arrays only (.npy); the file also holds {listed(strangers)}. Make it "
            "with numpy.savez."
        )
    slots = array_slots(name.removesuffix(".npy") for name in infos)
    return {
        slot: _read_header(archive, infos[f"{key}.npy"], key, slot) for slot, key in slots.items()
    }


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, slot: Slot) -> _Entry:
    with archive.open(info) as stream:
        try:
            version = npy.read_magic(stream)
            # 3.0 is only ever written for structured types, which are refused anyway.
            reader = {
                (1, 0): npy.read_array_header_1_0,
                (2, 0): npy.read_array_header_2_0,
            }
            shape, by_columns, dtype = reader[version](stream)
        except (
            ValueError,
            KeyError,
            TypeError,
            SyntaxError,
            tokenize.TokenError,  # numpy tries to mend headers of Python 2 token by token
            MemoryError,
            RecursionError,
        ) as error:
            raise InvalidDataset(
                f"{listed([key])} is not an array that numpy.savez wrote: its header cannot be "
                "read. Make the file again."
            ) from error
        offset = stream.tell()
    _check_dtype(key, slot, dtype)
    if not 1 <= len(shape) <= MAX_AXES or any(length < 1 for length in shape):
        raise InvalidDataset(
            f"{listed([key])} has shape {shape}; expected samples along the first axis, at least "
            f"one of each axis, and at most {MAX_AXES} axes."
        )
    declared = math.prod(shape) * dtype.itemsize
    if declared != info.file_size - offset:
        raise InvalidDataset(
            f"{listed([key])} declares shape {shape} of {dtype}, which is {declared:,} bytes, but "
            f"holds {info.file_size - offset:,}. The file is damaged; make it again."
        )
    return _Entry(key, slot, info, offset, shape, dtype, by_columns)


def _check_dtype(key: str, slot: Slot, dtype: np.dtype[Any]) -> None:
    number = dtype.kind in "biuf" and dtype.itemsize <= 8
    text = slot.role == "y" and dtype.kind == "U"
    if text and not 0 < dtype.itemsize <= 4 * MAX_LABEL_CHARACTERS:
        raise InvalidDataset(
            f"{listed([key])} holds texts of up to {dtype.itemsize // 4:,} characters; labels "
            f"may have {MAX_LABEL_CHARACTERS}. Store the labels as integers."
        )
    if number or text:
        return
    advice = 'Convert it with .astype("float32")'
    if dtype.hasobject:
        advice = "Python objects are never read; " + advice[0].lower() + advice[1:]
    if slot.role == "y":
        advice += " or, for labels, .astype(str)"
    raise InvalidDataset(
        f"{listed([key])} must hold booleans, integers or floats of at most 64 bits"
        f"{' or text labels' if slot.role == 'y' else ''}; it holds {str(dtype)[:80]}. {advice}."
    )


# --- structure ---------------------------------------------------------------------------------
def _check_splits(entries: dict[Slot, _Entry]) -> list[str]:
    found = {slot.split for slot in entries}
    keys = listed(entry.key for entry in entries.values())
    if ALL in found and len(found) > 1:
        raise InvalidDataset(
            f"{EXPECTED_KEYS}; the file mixes both ways: {keys}. Keep one of them."
        )
    if not found & {ALL, "train"}:
        raise InvalidDataset(f"{EXPECTED_KEYS}; the file has {keys}. Add x_train and y_train.")
    splits = [split for split in (ALL, *SPLITS) if split in found]
    names = {
        (role, split): {slot.name for slot in entries if slot[:2] == (role, split)}
        for role in "xy"
        for split in splits
    }
    unlabelled = not any(slot.role == "y" for slot in entries)
    for (role, split), here in names.items():
        if role == "y" and unlabelled:
            continue  # The model's own answers will stand for them.
        suffix = "" if split == ALL else f"_{split}"
        if not here:
            raise InvalidDataset(
                f"{EXPECTED_KEYS}; the file has {keys}. Add {role}{suffix}: "
                f"{'the targets' if role == 'y' else 'the inputs'} of that split."
            )
        if here != names[role, splits[0]]:
            raise InvalidDataset(
                f'Split "{split}" names {listed(sorted(here))} in {role}, split "{splits[0]}" '
                f"{listed(sorted(names[role, splits[0]]))}. Give every split the same."
            )
    return splits


def _check_shapes(entries: dict[Slot, _Entry], splits: list[str]) -> None:
    for entry in entries.values():
        model = entries[entry.slot._replace(split=splits[0])]
        if entry.shape[1:] != model.shape[1:] or entry.family != model.family:
            raise InvalidDataset(
                f"{listed([entry.key])} has samples of shape {entry.shape[1:]} ({entry.dtype}), "
                f"{listed([model.key])} of {model.shape[1:]} ({model.dtype}). Prepare all splits "
                "in the same way."
            )
        first = next(other for other in entries.values() if other.slot.split == entry.slot.split)
        if entry.shape[0] != first.shape[0]:
            raise InvalidDataset(
                f"{listed([first.key])} has {first.shape[0]:,} samples, {listed([entry.key])} "
                f"{entry.shape[0]:,}. Give every sample its target."
            )
        if entry.family == "text" and not entry.is_label:
            raise InvalidDataset(
                f"{listed([entry.key])} holds texts of shape {entry.shape}; expected one label "
                f"per sample, shape ({entry.shape[0]},)."
            )


# --- values ------------------------------------------------------------------------------------
def _chunks(archive: zipfile.ZipFile, entry: _Entry) -> Iterator[np.ndarray[Any, Any]]:
    """The array's values in the order stored, flat, a few MiB at a time."""
    step = max(1, CHUNK_BYTES // entry.dtype.itemsize) * entry.dtype.itemsize
    left = math.prod(entry.shape) * entry.dtype.itemsize
    with archive.open(entry.info) as stream:
        stream.read(entry.offset)
        while left:
            data = stream.read(min(step, left))
            if not data or len(data) % entry.dtype.itemsize:
                raise EOFError(f"{entry.key} ends early")
            left -= len(data)
            yield np.frombuffer(data, dtype=entry.dtype)
        stream.read(1)  # The checksum is compared at the end of the member.


def _scan(archive: zipfile.ZipFile, entry: _Entry) -> _Findings:
    low: int | None = None
    high: int | None = None
    distinct: set[Any] | None = set() if entry.is_label else None
    done = 0
    for chunk in _chunks(archive, entry):
        if entry.family == "float":
            _check_finite(entry, chunk, done)
        elif entry.family == "integer":
            smallest, largest = int(chunk.min()), int(chunk.max())
            low = smallest if low is None else min(low, smallest)
            high = largest if high is None else max(high, largest)
        else:
            _check_code_points(entry, chunk)
        if distinct is not None:
            distinct.update(np.unique(chunk).tolist())
            if len(distinct) > MAX_CLASSES:
                if entry.family == "text":
                    class_names(distinct)
                distinct = None
        done += chunk.size
    return _Findings(
        value_range=None if low is None or high is None else (low, high),
        distinct=None if distinct is None else frozenset(distinct),
    )


def _check_finite(entry: _Entry, chunk: np.ndarray[Any, Any], done: int) -> None:
    # min and max carry NaN along; both comparisons are then false.
    if float(chunk.min()) >= -FLOAT32_MAX and float(chunk.max()) <= FLOAT32_MAX:
        return
    where = ""
    if not entry.by_columns:
        bad = int(np.argmax(~(np.abs(chunk.astype(np.float64)) <= FLOAT32_MAX)))
        where = f", first in sample {(done + bad) // math.prod(entry.shape[1:])}"
    raise InvalidDataset(
        f"{listed([entry.key])} holds NaN, infinite values or values too large for float32"
        f"{where}. Fill or remove them."
    )


def _check_code_points(entry: _Entry, chunk: np.ndarray[Any, Any]) -> None:
    """Numpy trusts the bytes of a text array; Python's text type breaks on what is none."""
    points = chunk.view(entry.dtype.str[0] + "u4")
    if int(points.max()) > sys.maxunicode:
        raise InvalidDataset(
            f"{listed([entry.key])} holds bytes that are no text. Make the file again."
        )


def _classes(findings: list[_Findings]) -> tuple[str, ...] | None:
    distinct: set[Any] = set()
    for found in findings:
        if found.distinct is None:
            return None
        distinct |= found.distinct
    if any(isinstance(label, str) for label in distinct):
        return class_names(distinct)
    too_many = len(distinct) > MAX_CLASSES
    return None if too_many else tuple(str(int(label)) for label in sorted(distinct))


def _split_info(
    entries: dict[Slot, _Entry], findings: dict[Slot, _Findings], split: str
) -> SplitInfo:
    def arrays(role: str) -> tuple[ArrayInfo, ...]:
        return tuple(
            ArrayInfo(
                name=slot.name,
                shape=entry.shape[1:],
                dtype=TEXT if entry.family == "text" else entry.dtype.name,
                value_range=findings[slot].value_range,
            )
            for slot, entry in entries.items()
            if slot[:2] == (role, split)
        )

    samples = next(entry.shape[0] for slot, entry in entries.items() if slot.split == split)
    return SplitInfo(samples=samples, inputs=arrays("x"), targets=arrays("y"))
