"""What a model file is, told by its first bytes; what is nothing costs no process."""

from pathlib import Path

from app.domain.errors import InvalidModel

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
SAVE_ADVICE = 'Save the whole model with model.save("model.keras") and upload that file.'


def check_model_magic(path: Path, filename: str) -> bytes:
    """The first eight bytes of a `.keras` archive or an HDF5 file.

    Raises:
        InvalidModel: the file is neither.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if not magic.startswith(ZIP_MAGIC) and magic != HDF5_MAGIC:
        raise InvalidModel(
            f"{filename} is neither a .keras archive nor an HDF5 file (it begins with "
            f"{magic!r}). {SAVE_ADVICE}"
        )
    return magic
