"""Static reading of images in class folders: names, sizes and colours, from headers alone.

`<class>/<image>`, optionally below `train/`, `validation/` (or `val/`) and `test/`. A single
folder around everything is stripped; hidden files and what operating systems add are ignored.
Orientation tags are not applied: pixels stay as stored, as Keras' own loader has it.
"""

import io
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from PIL import Image

from app.domain.dataset import (
    ALL,
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

EXPECTED_LAYOUT = (
    "Expected images in class folders: <class>/<image>, or train/<class>/<image> and "
    "test/<class>/<image>"
)
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MAX_IMAGE_BYTES = 64 * 2**20
MAX_IMAGE_PIXELS = 50_000_000
MAX_SIDE = 4096
MAX_DECODED_BYTES = 16 * 2**30

STORED_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
COLOR_MODES = {"grayscale": "L", "rgb": "RGB"}
# What Pillow turns into 8-bit grey or RGB without clipping values.
_CONVERTIBLE = {*STORED_CHANNELS, "1", "P", "LA", "PA", "CMYK", "YCbCr"}
_SPLIT_FOLDERS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "val": "validation",
}
_SYSTEM_FILES = {"__macosx", "thumbs.db", "desktop.ini"}
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
    Warning,
    Image.DecompressionBombError,
)


class ImageFile(NamedTuple):
    """One image: its class, and its member's name in the archive."""

    class_name: str
    member: str


def inspect_images(archive: zipfile.ZipFile, options: DatasetOptions) -> DatasetInfo:
    """Read images of a zip whose directory has been checked.

    Raises:
        InvalidDataset: not in class folders, not images, or not of one size and colour.
    """
    _check_options(options)
    splits = list_images(archive)
    classes = _check_classes(splits)
    first: tuple[str, int, int, str] | None = None
    for files in splits.values():
        for file in files:
            with opened(archive, file.member) as image:
                width, height = image.size
                found = (file.member, height, width, image.mode)
            _check_mode(found, options)
            first = first or found
            _check_alike(first, found, options)
    assert first is not None  # Every class has an image.
    height, width = options.image_size or first[1:3]
    mode = COLOR_MODES[options.color] if options.color else first[3]
    shape = (height, width, STORED_CHANNELS[mode])
    _check_decoded_size(sum(map(len, splits.values())), shape)
    pixels = ArrayInfo(name="x", shape=shape, dtype="uint8", value_range=(0, 255))
    return DatasetInfo(
        format="images",
        splits={
            split: SplitInfo(
                samples=len(files),
                inputs=(pixels,),
                targets=(ArrayInfo(name="y", shape=(), dtype=TEXT),),
            )
            for split, files in splits.items()
        },
        classes=classes,
        options=options,
    )


def list_images(archive: zipfile.ZipFile) -> dict[str, list[ImageFile]]:
    """The images of each split, by class and name, whatever their order in the archive.

    Raises:
        InvalidDataset: files lie elsewhere than in class folders, or are no images.
    """
    paths = {}
    for info in archive.infolist():
        parts = info.filename.split("/")
        if info.is_dir() or any(
            part.startswith(".") or part.lower() in _SYSTEM_FILES for part in parts
        ):
            continue
        paths[info.filename] = parts
    _strip_root(paths)
    depth = (
        3 if paths and all(parts[0].lower() in _SPLIT_FOLDERS for parts in paths.values()) else 2
    )
    _check_layout(paths, depth)
    splits: dict[str, list[ImageFile]] = defaultdict(list)
    for member, parts in paths.items():
        split = ALL if depth == 2 else _SPLIT_FOLDERS[parts[0].lower()]
        splits[split].append(ImageFile(parts[-2], member))
    if depth == 3 and "train" not in splits:
        raise InvalidDataset(f"{EXPECTED_LAYOUT}; there is no train folder. Add it.")
    return {split: sorted(splits[split]) for split in (ALL, *SPLITS) if split in splits}


@contextmanager
def opened(archive: zipfile.ZipFile, member: str) -> Iterator[Image.Image]:
    """One image with its header read; pixels are decoded when they are first asked for.

    Raises:
        InvalidDataset: it is damaged, huge or no image, here or while it is decoded.
    """
    info = archive.getinfo(member)
    if info.file_size > MAX_IMAGE_BYTES:
        raise InvalidDataset(
            f"Expected images of at most {MAX_IMAGE_BYTES:,} bytes; {listed([member])} has "
            f"{info.file_size:,}. Make it smaller."
        )
    data = archive.read(info)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise InvalidDataset(
                    f"Expected images of at most {MAX_IMAGE_PIXELS:,} pixels; {listed([member])} "
                    f"is {image.height} x {image.width}. Make it smaller."
                )
            yield image
    except _BROKEN as error:
        raise InvalidDataset(
            f"{listed([member])} cannot be read as {', '.join(FORMATS)} "
            f"({type(error).__name__}). Replace or remove it."
        ) from error


# --- layout ------------------------------------------------------------------------------------
def _strip_root(paths: dict[str, list[str]]) -> None:
    """Drop folders that are wrapped around everything."""
    while paths:
        roots = {parts[0] for parts in paths.values()}
        shallow = any(len(parts) < 3 for parts in paths.values())
        if len(roots) > 1 or shallow or roots.pop().lower() in _SPLIT_FOLDERS:
            return
        for parts in paths.values():
            del parts[0]


def _check_layout(paths: dict[str, list[str]], depth: int) -> None:
    if not paths:
        raise InvalidDataset(f"{EXPECTED_LAYOUT}; the archive holds no files.")
    strangers = [member for member in paths if not member.lower().endswith(ENDINGS)]
    if strangers:
        raise InvalidDataset(
            f"{EXPECTED_LAYOUT}, ending in {', '.join(ENDINGS)}; the archive also holds "
            f"{listed(strangers)}. Remove or convert them."
        )
    tops = {parts[0] for parts in paths.values() if len(parts) > 1}
    splits = sorted(top for top in tops if top.lower() in _SPLIT_FOLDERS)
    if splits and depth == 2:
        rest = sorted(tops - set(splits))
        raise InvalidDataset(
            f"{EXPECTED_LAYOUT}; the archive mixes split folders ({listed(splits)}) with others "
            f"({listed(rest)}). Use split folders only, or rename a class of that name."
        )
    if len({_SPLIT_FOLDERS.get(split.lower()) for split in splits}) < len(splits):
        raise InvalidDataset(
            f"{EXPECTED_LAYOUT}; two folders name the same split: {listed(splits)}. Keep one."
        )
    astray = [member for member, parts in paths.items() if len(parts) != depth]
    if astray:
        raise InvalidDataset(
            f"{EXPECTED_LAYOUT}; these files lie elsewhere: {listed(astray)}. Move each image "
            "into the folder of its class."
        )


def _check_classes(splits: dict[str, list[ImageFile]]) -> tuple[str, ...]:
    found = {split: {file.class_name for file in files} for split, files in splits.items()}
    known = found.get(ALL) or found["train"]
    if len(known) < 2:
        raise InvalidDataset(
            f"{EXPECTED_LAYOUT}; there is only one class: {listed(known)}. Add a folder for each "
            "class."
        )
    for split, names in found.items():
        if names - known:
            raise InvalidDataset(
                f'Split "{split}" has classes that train has not: {listed(sorted(names - known))}. '
                "Add them to train, or remove them."
            )
    return class_names(known)


# --- size and colour ---------------------------------------------------------------------------
def _check_options(options: DatasetOptions) -> None:
    if options.image_size and not all(1 <= side <= MAX_SIDE for side in options.image_size):
        raise InvalidDataset(
            f"options.image_size must be [height, width], each from 1 to {MAX_SIDE}; it is "
            f"{list(options.image_size)}.",
            field="options.image_size",
        )


def _check_mode(found: tuple[str, int, int, str], options: DatasetOptions) -> None:
    member, _, _, mode = found
    if mode not in _CONVERTIBLE:
        raise InvalidDataset(
            f"Expected images with 8 bits per channel; {listed([member])} is stored as {mode}. "
            "Save it with 8 bits, or upload the values as .npz."
        )
    if mode not in STORED_CHANNELS and options.color is None:
        raise InvalidDataset(
            f"{listed([member])} is stored as {mode} (a palette, or another colour space). Give "
            'options.color: "rgb" or "grayscale".',
            field="options.color",
        )


def _check_alike(
    first: tuple[str, int, int, str],
    found: tuple[str, int, int, str],
    options: DatasetOptions,
) -> None:
    if options.image_size is None and first[1:3] != found[1:3]:
        raise InvalidDataset(
            f"Images differ in size: {listed([first[0]])} is {first[1]} x {first[2]}, "
            f"{listed([found[0]])} is {found[1]} x {found[2]} (height x width). Give "
            "options.image_size: [height, width].",
            field="options.image_size",
        )
    if options.color is None and first[3] != found[3]:
        raise InvalidDataset(
            f"Images differ in colour: {listed([first[0]])} is {first[3]}, {listed([found[0]])} "
            f'is {found[3]}. Give options.color: "rgb" or "grayscale".',
            field="options.color",
        )


def _check_decoded_size(samples: int, shape: tuple[int, int, int]) -> None:
    decoded = samples * shape[0] * shape[1] * shape[2]
    if decoded > MAX_DECODED_BYTES:
        raise InvalidDataset(
            f"{samples:,} images of {shape[0]} x {shape[1]} x {shape[2]} are {decoded:,} bytes "
            f"decoded; at most {MAX_DECODED_BYTES:,} can be trained on. Give a smaller "
            "options.image_size.",
            field="options.image_size",
        )
