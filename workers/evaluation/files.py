"""The files of a job: that each runs, how near it is to the model, and what quantisation costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.metrics import FileFigure
from app.domain.prune import QUANTISED, Export
from app.domain.spec import PruningSpec
from workers.evaluation.exported import evaluate_file, look
from workers.evaluation.running import Inputs
from workers.measure.agreement import computed
from workers.measure.compare import ALWAYS, Measured, first_sentence
from workers.measure.latency import probe
from workers.measure.pair import Files
from workers.training.data import Data
from workers.training.objective import Objective

Array = NDArray[Any]
Note = Callable[[str], None]

LOOKED_AT = 256
"""Held-out samples that a file's outputs are compared on."""
RANDOM = 8
"""Samples, where there are no data."""
EXACT = 1e-3
"""Share of the largest output by which a file that is not quantised may be off: float noise of
other orders of computation."""
NO_RUNTIME: tuple[Export, ...] = ("sparse_npz",)


def look_at_files(
    files: Files, model: Any, spec: PruningSpec, data: Data | None, note: Note
) -> dict[str, FileFigure]:
    """Run each file of the final model once more, as its user will.

    Args:
        files: what was written.
        model: the final Keras model.
        spec: says which files are handed out.
        data: held-out samples come from here.
        note: told where a file cannot be run, or is not as near as it should be.
    """
    inputs = _inputs(model, data, spec.seed)
    expected = computed(model, inputs)
    found: dict[str, FileFigure] = {}
    for export in dict.fromkeys((*ALWAYS, *spec.exports)):
        file: Path = files[export][1]
        if export in NO_RUNTIME:
            found[export] = FileFigure(name=file.name)
            continue
        try:
            found[export] = one = look(file, inputs, expected)
        except Exception as error:  # noqa: BLE001  whatever a runtime says, the files are made
            note(f"{file.name} could not be run on held-out samples: {first_sentence(error)}.")
            continue
        if export not in QUANTISED and (one.difference is None or one.difference > EXACT):
            off = "in shape or kind" if one.difference is None else f"by {one.difference:.1e}"
            note(f"On held-out samples {file.name} differs from the Keras model {off}.")
    return found


def _inputs(model: Any, data: Data | None, seed: int) -> Inputs:
    if data is None:
        return probe(model, RANDOM, seed)
    return {name: np.asarray(values[:LOOKED_AT]) for name, values in data.test.inputs.items()}


def evaluate_quantised(
    files: Files,
    spec: PruningSpec,
    data: Data | None,
    objective: Objective | None,
    measured: Measured,
    note: Note,
) -> None:
    """Metrics of quantised files on held-out samples, before and after."""
    if data is None or objective is None:
        return
    for export in spec.exports:
        if export in QUANTISED:
            for mine, file in zip((measured.before, measured.after), files[export], strict=True):
                try:
                    mine.exported[export] = evaluate_file(file, data.test, objective)
                except (ValueError, RuntimeError) as error:
                    note(f"No metrics of {export}: {first_sentence(error)}.")
