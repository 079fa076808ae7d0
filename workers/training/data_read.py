"""Reading a stored data set into arrays, as stored; what may be in it was checked on upload."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.domain.dataset import ALL, TEXT, DatasetInfo
from app.domain.errors import InvalidDataset
from app.intake.datasets import open_archive
from app.intake.images import COLOR_MODES, STORED_CHANNELS, list_images, opened
from app.intake.npz import array_slots
from app.intake.table_files import open_table
from app.intake.tables import to_numbers, to_texts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Raw:
    """One split by the data set's own names; every array has the sample axis first."""

    inputs: dict[str, Array]
    targets: dict[str, Array]

    @property
    def count(self) -> int:
        """Samples."""
        return len(next(iter(self.inputs.values())))

    def take(self, indexes: Array) -> "Raw":
        """These samples, copied."""
        return Raw(
            {name: array[indexes] for name, array in self.inputs.items()},
            {name: array[indexes] for name, array in self.targets.items()},
        )


def read_splits(path: Path, data: DatasetInfo) -> dict[str, Raw]:
    """All splits of a data set that `app.intake.datasets` has accepted.

    Raises:
        InvalidDataset: the file is not the one that was accepted, or an image does not decode.
    """
    match data.format:
        case "npz":
            splits = _read_npz(path)
        case "csv" | "parquet":
            splits = {ALL: _read_table(path, data)}
        case "images":
            splits = _read_images(path, data)
    found = {split: raw.count for split, raw in splits.items()}
    if found != {split: info.samples for split, info in data.splits.items()}:
        raise InvalidDataset(
            f"The file holds {found} samples, which is not what was uploaded. Upload it again."
        )
    return splits


def _read_npz(path: Path) -> dict[str, Raw]:
    splits: dict[str, Raw] = {}
    with np.load(path, allow_pickle=False) as archive:
        for slot, key in array_slots(archive.files).items():
            raw = splits.setdefault(slot.split, Raw({}, {}))
            (raw.inputs if slot.role == "x" else raw.targets)[slot.name] = archive[key]
    return splits


def _read_table(path: Path, data: DatasetInfo) -> Raw:
    info = data.splits[ALL]
    features = data.columns or ()
    text = info.targets[0].dtype == TEXT
    x = np.empty((info.samples, len(features)), dtype=_storage(info.inputs[0].dtype))
    targets: list[Array] = []
    row = 0
    table = open_table(path, data.format)
    place = {name: index for index, name in enumerate(table.columns)}
    for batch in table.batches():
        rows = slice(row, row + batch.num_rows)
        row = rows.stop
        if row > info.samples:
            break
        for number, name in enumerate(features):
            x[rows, number] = _numbers(batch.column(place[name]), name)
        target = batch.column(place[data.options.target or ""])
        targets.append(_texts(target) if text else _numbers(target, "target"))
    y = np.concatenate(targets)
    return Raw({"x": x}, {"y": y if text else y.astype(_storage(info.targets[0].dtype))})


def _storage(dtype: str) -> Any:
    """Floats are trained on as float32 anyway; whole numbers may index an embedding."""
    return np.float32 if dtype.startswith("float") else np.int64


def _numbers(values: Any, name: str) -> Array:
    numbers = to_numbers(values)
    if numbers is None or len(numbers[1]) != len(values):
        raise InvalidDataset(f"Column {name!r} no longer holds numbers only. Upload it again.")
    return numbers[1]


def _texts(values: Any) -> Array:
    texts = to_texts(values)
    if texts is None or len(texts) != len(values):
        raise InvalidDataset("The target column no longer holds text only. Upload it again.")
    return np.array(texts.to_pylist(), dtype=np.str_)


def _read_images(path: Path, data: DatasetInfo) -> dict[str, Raw]:
    height, width, channels = next(iter(data.splits.values())).inputs[0].shape
    by_channels = {count: mode for mode, count in STORED_CHANNELS.items()}
    mode = COLOR_MODES[data.options.color] if data.options.color else by_channels[channels]
    splits = {}
    with open_archive(path) as archive:
        for split, files in list_images(archive).items():
            pixels = np.empty((len(files), height, width, channels), dtype=np.uint8)
            for number, file in enumerate(files):
                with opened(archive, file.member) as image:
                    decoded = _decoded(image, mode, (width, height))
                    pixels[number] = decoded.reshape(height, width, channels)
            labels = np.array([file.class_name for file in files], dtype=np.str_)
            splits[split] = Raw({"x": pixels}, {"y": labels})
    return splits


def _decoded(image: Image.Image, mode: str, size: tuple[int, int]) -> Array:
    """Pixels in `mode`; size is (width, height), as Pillow has it."""
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, resample=Image.Resampling.BILINEAR)
    return np.asarray(image)
