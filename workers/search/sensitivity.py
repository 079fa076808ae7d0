"""How much each layer bears: cut alone, without training."""

from typing import Any

import numpy as np

from app.domain.criteria import (
    MagnitudeCriterion,
    ThresholdCriterion,
    VariationalDropoutCriterion,
)
from app.domain.errors import EngineRefusal
from app.domain.metrics import MetricValue, SensitiveLayer, SensitivityFigure
from app.domain.pareto import by_interest
from app.domain.prune import FractionTarget, LayerOverride, Prune
from app.domain.spec import Sensitivity
from workers import engine
from workers.engine.graph import kernels, layer_of
from workers.engine.overrides import exactly, wish
from workers.evaluation.evaluate import scored
from workers.measure.agreement import computed
from workers.training.data import Data, Samples
from workers.training.evidence import drawn
from workers.training.objective import Objective

NEARLY = 0.8
"""Of a share that has to go, rounding allowed for, to speak of that share."""
AT_ONCE = 256
"""Samples of a batch."""


def sensitivity(
    model: Any,
    prune: Prune,
    asked: Sensitivity,
    data: Data,
    objective: Objective,
    seed: int,
    evidence: engine.Evidence | None = None,
    *,
    metric: str | None = None,
    every: bool = False,
) -> SensitivityFigure:
    """The metric of the original without each share of each layer. [Li et al. 2017]

    Args:
        model: the original; it stays as it is.
        prune: granularity, criterion and skipped layers come from here. Criteria that decide by
            themselves, or learn, give way to magnitude.
        asked: shares, layers and samples.
        data: validation samples come from here.
        objective: its losses and metrics.
        seed: of the samples, and of criterion random.
        evidence: what the criterion has seen of the model.
        metric: its name; the one of most interest where left out.
        every: layer, however many `asked` would look at.
    """
    samples = drawn(data.validation, asked.samples, seed)
    whole = _scores(model, samples, objective)
    name = metric or by_interest(whole)[0]
    rows = []
    for members in _together(model, prune)[: None if every else asked.layers]:
        values = []
        for share in asked.shares:
            cut = _cut(model, prune, members, share, seed, evidence)
            values.append(None if cut is None else _scores(cut, samples, objective)[name].value)
        rows.append(SensitiveLayer(layers=members, values=tuple(values)))
    order = {one.name: place for place, one in enumerate(engine.analyse(model).layers)}
    return SensitivityFigure(
        metric=name,
        whole=whole[name].value,
        shares=asked.shares,
        layers=tuple(sorted(rows, key=lambda row: order.get(row.layers[0], 0))),
        samples=samples.count,
    )


def _together(model: Any, prune: Prune) -> list[tuple[str, ...]]:
    """Layers that are cut together; those with most parameters first."""
    layers = engine.analyse(model).layers
    if prune.structured:
        units = [one for one in layers if one.prunable]
        rows = {tuple(sorted({one.name, *one.coupled_with})) for one in units}
    else:
        rows = {(layer_of(key),) for key in kernels(model)}
    sizes = {one.name: one.parameters for one in layers}
    kept = [row for row in rows if not any(wish(name, prune).skip for name in row)]
    return sorted(kept, key=lambda row: (-sum(sizes.get(name, 0) for name in row), row))


def _cut(
    model: Any,
    prune: Prune,
    members: tuple[str, ...],
    share: float,
    seed: int,
    evidence: engine.Evidence | None,
) -> Any | None:
    """The model without a share of these layers, or None where that much cannot go."""
    criterion = prune.criterion
    if isinstance(criterion, ThresholdCriterion | VariationalDropoutCriterion):
        criterion = MagnitudeCriterion()
    alone = (LayerOverride(match="*", skip=True), *(exactly(name, share) for name in members))
    update = {
        "criterion": criterion,
        "scope": "layer",
        "target": FractionTarget(remove=share),
        "layers": alone,
    }
    try:
        cut = engine.choose(model, prune.model_copy(update=update), seed=seed, evidence=evidence)
    except EngineRefusal:
        return None
    touched = [one for one in cut.summary if one.name in members and one.prunable]
    if any(one.removed < NEARLY * share * one.prunable - 1 for one in touched):
        return None  # Limits such as min_units hold more.
    return engine.apply(model, cut)


def _scores(model: Any, samples: Samples, objective: Objective) -> dict[str, MetricValue]:
    # Called as they are: compiling each of the cut models would take longer.
    parts = [
        computed(model, dict(zip(samples.inputs, inputs, strict=True)))
        for inputs, _ in samples.batches(AT_ONCE)
    ]
    outputs = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return scored(outputs, samples, objective)
