"""Every format has a writer, a name, and a media type by which it is handed out."""

from typing import get_args

from app.domain.job import MEDIA_TYPES
from app.domain.prune import QUANTISED, Export
from workers.exports.formats import FILE_NAMES


def test_every_format_can_be_handed_out() -> None:
    assert set(FILE_NAMES) == set(get_args(Export))
    assert set(FILE_NAMES.values()) <= set(MEDIA_TYPES)
    assert len(set(FILE_NAMES.values())) == len(FILE_NAMES)
    assert set(QUANTISED) < set(FILE_NAMES)
