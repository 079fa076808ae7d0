"""Before a reduced model is offered, a process that had no part in making it reads it.

It is the reading that uploads get (`app.intake`): a fresh, confined process without TensorFlow,
which opens the stored file, accepts only what is on the list of what a model may contain, and
compares all weights with what the config says. Whoever took over the job's process can thus hand
out nothing that this service would refuse as an upload, and a file that lost something on its way
into the store is noticed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.domain.errors import InternalError, InvalidModel
from app.domain.job import ArtifactFile
from app.domain.metrics import Metrics
from app.domain.model import ModelInfo, TensorInfo
from app.domain.ports import Store
from app.intake.process import Readers

READ = ("model.keras", "model.h5")
"""Other formats hold no code of Python, and are run by their own runtimes."""


def read_back(
    store: Store,
    files: Sequence[ArtifactFile],
    told: Metrics,
    original: ModelInfo,
    memory_bytes: int,
) -> None:
    """Read every Keras file among a job's stored artifacts.

    Args:
        store: where they lie already, not yet visible.
        files: the artifacts.
        told: what the job said of them.
        original: the model that was uploaded.
        memory_bytes: of each reading process.

    Raises:
        InternalError: one cannot be read, or is not what was told.
        Unavailable: no process could be had.
    """
    readers = Readers(at_once=1, memory_bytes=memory_bytes)
    for file in files:
        if file.name in READ:
            _compare(file.name, _read(store, file, readers), told, original)


def _read(store: Store, file: ArtifactFile, readers: Readers) -> ModelInfo:
    with tempfile.TemporaryDirectory(prefix="secateur-back-") as folder:
        canonical = Path(folder) / "canonical"
        canonical.mkdir()
        stored = Path(folder) / file.name
        store.fetch(file.key, file.sha256, stored)
        try:
            return readers.model(stored, file.name, canonical / "model")
        except InvalidModel as error:
            raise _refused(file.name, error.detail) from error


def _compare(name: str, found: ModelInfo, told: Metrics, original: ModelInfo) -> None:
    if found.parameters != told.after.parameters:
        raise _refused(
            name, f"It has {found.parameters} parameters, the job told {told.after.parameters}."
        )
    for what, mine, theirs in (
        ("inputs", found.inputs, original.inputs),
        ("outputs", found.outputs, original.outputs),
    ):
        if not _alike(mine, theirs):
            raise _refused(
                name, f"Its {what} have the shapes {_shapes(mine)}, not {_shapes(theirs)}."
            )


def _alike(mine: Sequence[TensorInfo], theirs: Sequence[TensorInfo]) -> bool:
    """Whether the shapes are the same, as far as the files tell them."""
    pairs = zip(_shapes(mine), _shapes(theirs), strict=False)
    return len(mine) == len(theirs) and all(a == b or None in (a, b) for a, b in pairs)


def _shapes(tensors: Sequence[TensorInfo]) -> list[tuple[int | None, ...] | None]:
    return [tensor.shape for tensor in tensors]


def _refused(name: str, why: str) -> InternalError:
    return InternalError(
        f"The job's {name} was read back by a process of its own before being offered, and is not "
        f"handed out: {why} This is a defect of the service; the original is untouched."
    )
