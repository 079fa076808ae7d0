"""Exported files beside the model: that they run, how near they are, what quantisation costs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.metrics import FileFigure, MetricValue
from workers.evaluation.evaluate import scored
from workers.evaluation.running import Inputs, Opened, opened
from workers.measure.agreement import disagreement
from workers.measure.latency import cores
from workers.training.data import Samples
from workers.training.objective import Objective

Array = NDArray[Any]
BATCH = 64


def evaluate_file(file: Path, samples: Samples, objective: Objective) -> dict[str, MetricValue]:
    """Loss and metrics by name, as `evaluate` has them of the Keras model.

    Raises:
        ValueError, RuntimeError: its runtime cannot run the file on these samples.
    """
    return scored(outputs(file, samples.inputs, cores()), samples, objective)


def outputs(file: Path, inputs: Inputs, threads: int = 1) -> list[Array]:
    """What a file makes of samples, one array per output, in the model's order.

    Args:
        file: as `workers.exports` writes it.
        inputs: by the model's input name, samples first.
        threads: of the runtime.
    """
    return run(opened(file, threads), inputs)


def run(file: Opened, inputs: Inputs) -> list[Array]:
    """The same for a file that is open."""
    count = len(next(iter(inputs.values())))
    found = [
        file.run({name: values[start : start + BATCH] for name, values in inputs.items()})
        for start in range(0, count, BATCH)
    ]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def look(file: Path, inputs: Inputs, expected: Sequence[Array]) -> FileFigure:
    """What a file takes and gives, and how far it is from the model.

    Args:
        file: as `workers.exports` writes it.
        inputs: some samples.
        expected: the model's outputs for them.

    Raises:
        ValueError, RuntimeError: its runtime cannot run it.
    """
    ready = opened(file)
    received = run(ready, inputs)
    worst = max(disagreement(a, b) for a, b in zip(expected, received, strict=True))
    return FileFigure(
        name=file.name,
        inputs=ready.inputs,
        outputs=ready.outputs,
        details=ready.details,
        difference=None if math.isinf(worst) else worst,
        samples=len(received[0]),
    )


def ensure_runs(file: Path, inputs: Inputs, expected: Sequence[Array]) -> None:
    """Run a file once, before it is offered.

    Args:
        file: as `workers.exports` writes it.
        inputs: by the model's input name.
        expected: the model's outputs for them.

    Raises:
        EngineRefusal: its runtime cannot run it, or what it puts out has another shape, or is no
            number where the model's outputs are.
    """
    try:
        received = outputs(file, inputs)
    except (ValueError, RuntimeError) as error:
        raise EngineRefusal(
            f"{file.name} was written, but its runtime cannot run it: {str(error)[:500]} Leave "
            "this format out of exports.",
            field="exports",
        ) from error
    told, shapes = [each.shape for each in received], [each.shape for each in expected]
    if told != shapes or not all(
        np.isfinite(mine[np.isfinite(theirs)]).all()
        for mine, theirs in zip(received, expected, strict=True)
    ):
        raise EngineRefusal(
            f"{file.name} was written, but on random inputs it puts out shapes {told}, where the "
            f"model has {shapes}, or values that are no numbers. It is not handed out. Leave this "
            "format out of exports.",
            field="exports",
        )
