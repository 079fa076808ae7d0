"""Choosing what goes: the one place where the spec's granularity is matched."""

from typing import Any

import numpy as np

from app.domain.criteria import ThresholdCriterion
from app.domain.errors import EngineRefusal
from app.domain.prune import LayerGranularity, Prune
from workers.engine import graph
from workers.engine.analysis import Analysis, analyse
from workers.engine.cut import Cut, Progress
from workers.engine.depth import blocks, choose_layers
from workers.engine.evidence import Evidence
from workers.engine.units import choose_units
from workers.engine.weights import choose_weights


def begin(model: Any, prune: Prune | None = None) -> Progress:
    """Remember the original model, for the steps of a schedule.

    Args:
        model: the original.
        prune: what the steps are for; what they do not need is not remembered.

    Raises:
        EngineRefusal: the model has no graph that can be read.
    """
    return _begin(analyse(model), prune)


def _begin(analysis: Analysis, prune: Prune | None) -> Progress:
    model, counts = analysis.model, analysis.sizes
    by_threshold = prune is None or isinstance(prune.criterion, ThresholdCriterion)
    return Progress(
        parameters=counts.parameters,
        macs=counts.macs,
        units={group.key: int(group.units.size) for group in analysis.groups},
        blocks=len(blocks(model)),
        deviations={
            key: float(np.std(graph.values(variable), dtype=np.float64))
            for key, variable in (graph.kernels(model) if by_threshold else {}).items()
        },
    )


def choose(
    model: Any,
    prune: Prune,
    *,
    share: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
    evidence: Evidence | None = None,
) -> Cut:
    """Choose what goes so that `share` of the target is done, relative to the original model.

    Args:
        model: the model as it is now, after the earlier steps.
        prune: what the spec asks for.
        share: in (0, 1]; a one-shot cut has 1.
        seed: for criterion random.
        progress: of the step before (`cut.progress`), or of the original model (`begin`), which
            it is taken to be when left out.
        evidence: what was seen of `model`, as it is now, on data; needed by the criteria that look
            at data (`prune.needs_data`).

    Raises:
        EngineRefusal: nothing can be removed, the target cannot be reached, or evidence is
            missing; it says why.
    """
    analysis = analyse(model)
    if evidence is None and prune.needs_data:
        raise EngineRefusal(
            f"Criterion {prune.criterion.kind} looks at data, and there is none: give a data set, "
            "or use criterion magnitude."
        )
    progress = _begin(analysis, prune) if progress is None else progress
    if not prune.structured:
        return choose_weights(model, prune, share, seed, progress, evidence)
    if isinstance(prune.granularity, LayerGranularity):
        return choose_layers(analysis, prune, share, seed, progress, evidence)
    return choose_units(analysis, prune, share, seed, progress, evidence)
