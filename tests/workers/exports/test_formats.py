"""Every format has a writer, a name, and a media type by which it is handed out."""

from pathlib import Path
from typing import get_args

import pytest

from app.domain.errors import EngineRefusal
from app.domain.job import MEDIA_TYPES
from app.domain.prune import QUANTISED, Export
from tests.workers.engine.zoo import mlp
from tests.workers.engine.zoo_ops import glu
from workers.exports.formats import FILE_NAMES, write


def test_every_format_can_be_handed_out() -> None:
    assert set(FILE_NAMES) == set(get_args(Export))
    assert set(FILE_NAMES.values()) <= set(MEDIA_TYPES)
    assert len(set(FILE_NAMES.values())) == len(FILE_NAMES)
    assert set(QUANTISED) < set(FILE_NAMES)


def test_an_h5_file_that_keras_cannot_load_is_refused(tmp_path: Path) -> None:
    assert write(mlp(), "h5", tmp_path).stat().st_size
    with pytest.raises(EngineRefusal, match=r"keras.ops.*Leave h5 out") as refused:
        write(glu(), "h5", tmp_path)
    assert refused.value.field == "exports"
