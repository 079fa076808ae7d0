"""What a search measures of a cut: bytes of its file, time of its calls."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.domain.errors import EngineRefusal
from app.domain.prune import BytesTarget, Export, LatencyTarget, Runtime
from workers import engine
from workers.exports import formats
from workers.measure import compare, latency
from workers.measure import pair as pairs
from workers.search.seek import Candidate, Reading


class TimePair(Protocol):
    """`workers.measure.pair.time_pair`, or a test's."""

    def __call__(
        self,
        pair: pairs.Pair,
        runtime: Runtime,
        batch_size: int,
        repeats: int,
        seed: int,
        budget_seconds: float,
    ) -> latency.Seconds:
        """Seconds of each call of both models."""


@dataclass(frozen=True)
class FileBytes:
    """Bytes of a candidate's file, as the job would hand it out."""

    model: Any
    target: BytesTarget
    folder: Path
    prepare: Callable[[Any], None]
    """Makes a copy like the job's results: compiled, which a .keras or .h5 file carries too."""

    def __call__(self, candidate: Candidate) -> Reading:
        """Cut, export, and look at the file.

        Raises:
            EngineRefusal: the format cannot express the model.
        """
        nothing = engine.UnitCut({}, (), engine.begin(self.model))
        model = engine.apply(self.model, candidate.cut or nothing)
        self.prepare(model)
        path = _write(model, self.target.export, self.folder)
        return Reading(path.stat().st_size)


@dataclass(frozen=True)
class CallTime:
    """Time of a candidate's calls, in turns with the original's."""

    model: Any
    target: LatencyTarget
    folder: Path
    seed: int
    repeats: int
    budget_seconds: float = latency.BUDGET_SECONDS
    time_pair: TimePair = pairs.time_pair

    def __call__(self, candidate: Candidate) -> Reading:
        """Cut, export where the runtime reads files, and time.

        Raises:
            EngineRefusal: the model does not run on the target's runtime.
        """
        if candidate.cut is None and self.target.keep is not None:
            return Reading(1.0)
        runtime = self.target.runtime
        cut = candidate.cut
        trial = self.model if cut is None else engine.apply(self.model, cut)
        try:
            seconds = self.time_pair(
                pairs.Pair(self.model, trial, self._files(trial)),
                runtime,
                self.target.batch_size,
                self.repeats,
                self.seed,
                self.budget_seconds,
            )
        except (ValueError, RuntimeError) as error:
            raise EngineRefusal(
                f"The latency target cannot be measured: the model does not run on {runtime}: "
                f"{compare.first_sentence(error)}. Name another runtime.",
                field="prune.target.runtime",
            ) from error
        del trial
        gc.collect()  # Interpreters and compiled functions are large, and held in cycles.
        return reading(seconds, self.target)

    def _files(self, trial: Any) -> pairs.Files:
        export = pairs.FILE_OF.get(self.target.runtime)
        if export is None:
            return {}
        before = self.folder / "before" / formats.FILE_NAMES[export]
        if not before.exists():
            before = _write(self.model, export, self.folder / "before")
        return {export: (before, _write(trial, export, self.folder / "after"))}


def reading(seconds: latency.Seconds, target: LatencyTarget) -> Reading:
    """The second model's time in the target's unit: share of the first's, or milliseconds."""
    before, after = seconds
    return Reading(*latency.median(after * 1000 if target.keep is None else after / before))


def as_trained(model: Any, seed: int) -> None:
    """Give what is trainable small random changes, as training will.

    LiteRT stores equal constants once and drops biases that are all zero, so that files of
    untrained parts are smaller than what training makes of them.
    """
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        change = 1e-3 * random.standard_normal(tuple(variable.shape))
        variable.assign_add(change.astype("float32"))


def _write(model: Any, export: Export, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return formats.write(model, export, folder)
    except EngineRefusal as refusal:
        raise EngineRefusal(
            f"The target needs the model as {export}. {refusal.detail}", field="prune.target"
        ) from refusal
