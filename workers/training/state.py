"""Where a job stands between two epochs, and its checkpoint: a zip without pickles."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.base import Record
from app.domain.metrics import EpochFigure, EqualityFigure, State
from workers.engine import Progress
from workers.search.resolve import Resolved
from workers.search.tally import Tally

Array = NDArray[Any]


@dataclass
class JobState:
    """All that a later attempt needs to go on as if nothing had happened."""

    model: Any
    """The model as it is now; without optimizer."""
    progress: Progress
    step: int = 0
    """Cuts made so far."""
    epoch_in_step: int = 0
    epochs_done: int = 0
    best_loss: float = float("inf")
    best_weights: list[Array] | None = None
    patience_used: int = 0
    optimizer: list[Array] | None = None
    """The optimizer's variables, in its order."""
    before: State | None = None
    pruned: State | None = None
    equality: EqualityFigure | None = None
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    history: list[EpochFigure] = field(default_factory=list)
    loss_scale: float | None = None
    """What a nat of likelihood is in units of the loss, by the original; see `log_variances`."""
    log_variances: Mapping[str, Array] = field(default_factory=dict)
    """Of the noise that criterion variational_dropout learns, by variable key."""
    cut_notes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    resolved: Resolved | None = None
    """What the search for a bytes or latency target found."""
    tally: Tally = field(default_factory=Tally)
    """Weights or units removed so far."""


def save(state: JobState, path: Path) -> None:
    """Write a checkpoint."""
    model = path.with_suffix(".keras")
    state.model.save(model)
    meta = {
        "progress": state.progress.to_json(),
        "step": state.step,
        "epoch_in_step": state.epoch_in_step,
        "epochs_done": state.epochs_done,
        "best_loss": repr(state.best_loss),
        "patience_used": state.patience_used,
        "before": _dump(state.before),
        "pruned": _dump(state.pruned),
        "equality": _dump(state.equality),
        "history": [figure.model_dump() for figure in state.history],
        "cut_notes": state.cut_notes,
        "seconds": state.seconds,
        "loss_scale": state.loss_scale,
        "resolved": _dump(state.resolved),
        "tally": _dump(state.tally),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.write(model, "model.keras")
        archive.writestr("state.json", json.dumps(meta))
        _write_arrays(archive, "masks.npz", dict(state.masks))
        _write_arrays(archive, "noise.npz", dict(state.log_variances))
        _write_list(archive, "optimizer.npz", state.optimizer)
        _write_list(archive, "best.npz", state.best_weights)
    model.unlink()


def restore(path: Path, scratch: Path) -> JobState:
    """Read what `save` wrote."""
    with zipfile.ZipFile(path) as archive:
        meta = json.loads(archive.read("state.json"))
        masks = _read_arrays(archive, "masks.npz")
        noise = _read_arrays(archive, "noise.npz")
        optimizer = _read_list(archive, "optimizer.npz")
        best = _read_list(archive, "best.npz")
        model_path = Path(archive.extract("model.keras", scratch))
    model = keras.models.load_model(model_path, compile=False)
    model_path.unlink()
    return JobState(
        model=model,
        progress=Progress.from_json(meta["progress"], masks),
        step=meta["step"],
        epoch_in_step=meta["epoch_in_step"],
        epochs_done=meta["epochs_done"],
        best_loss=float(meta["best_loss"]),
        best_weights=best,
        patience_used=meta["patience_used"],
        optimizer=optimizer,
        before=State.model_validate(meta["before"]) if meta["before"] else None,
        pruned=State.model_validate(meta["pruned"]) if meta["pruned"] else None,
        equality=EqualityFigure.model_validate(meta["equality"]) if meta["equality"] else None,
        masks=masks,
        log_variances=noise,
        history=[EpochFigure.model_validate(figure) for figure in meta["history"]],
        cut_notes=meta["cut_notes"],
        seconds=meta["seconds"],
        loss_scale=meta["loss_scale"],
        resolved=Resolved.model_validate(meta["resolved"]) if meta["resolved"] else None,
        tally=Tally.model_validate(meta["tally"]),
    )


def _dump(record: Record | None) -> dict[str, Any] | None:
    return record.model_dump(mode="json") if record else None


def _write_arrays(archive: zipfile.ZipFile, name: str, arrays: dict[str, Array]) -> None:
    # Names of variables hold slashes, which the members of an .npz cannot all bear.
    with archive.open(name, "w", force_zip64=True) as file:
        packed = {f"a{index}": value for index, value in enumerate(arrays.values())}
        np.savez(file, allow_pickle=False, names=np.array(list(arrays), dtype=str), **packed)


def _read_arrays(archive: zipfile.ZipFile, name: str) -> dict[str, Array]:
    with archive.open(name) as file, np.load(file, allow_pickle=False) as arrays:
        return {str(key): arrays[f"a{index}"] for index, key in enumerate(arrays["names"])}


def _write_list(archive: zipfile.ZipFile, name: str, arrays: list[Array] | None) -> None:
    if arrays is not None:
        _write_arrays(archive, name, {str(index): value for index, value in enumerate(arrays)})


def _read_list(archive: zipfile.ZipFile, name: str) -> list[Array] | None:
    if name not in archive.namelist():
        return None
    return list(_read_arrays(archive, name).values())
