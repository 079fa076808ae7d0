"""How much each layer loses, so that all of them cost alike: from what each bears alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.metrics import SensitivityFigure
from app.domain.prune import FractionTarget, MacsTarget, ParametersTarget, Prune
from app.domain.spec import Sensitivity
from workers import engine
from workers.engine.overrides import exactly
from workers.search.sensitivity import sensitivity
from workers.training.data import Data
from workers.training.objective import Objective

Allocation = Mapping[str, float]
"""Share of each layer's own weights or units that goes, by layer."""
SLOPE = 1e-3
"""Cost of a share that costs nothing, of the largest cost: such layers lose alike."""
HALVINGS = 30
LOOKED_AT = Sensitivity()


def allocate(
    model: Any,
    prune: Prune,
    data: Data,
    objective: Objective,
    seed: int,
    evidence: engine.Evidence | None = None,
) -> Callable[[Prune], Allocation]:
    """What each layer bears, as a function from a target to the shares that reach it.

    A layer's cost is what the loss on validation samples rises by without a share of it, nothing
    else cut and nothing trained; between the shares that were looked at it is a straight line.
    For a target, the one cost is found at which all layers, each losing as much as that cost
    allows, just reach it. [After Li et al. 2017, arXiv:1608.08710, 3.2, who set shares by eye]

    Args:
        model: the original.
        prune: granularity, criterion and overrides.
        data: validation samples come from here.
        objective: its losses.
        seed: of the samples, and of criterion random.
        evidence: what the criterion has seen of the model.
    """
    found = sensitivity(
        *(model, prune, LOOKED_AT, data, objective, seed), evidence, metric="loss", every=True
    )
    curves = _curves(found)
    original = engine.begin(model, prune)

    def shares(asked: Prune) -> Allocation:
        def reached(cost: float) -> bool:
            wanted = allocated(asked, _at(curves, cost))
            try:
                cut = engine.choose(model, wanted, seed=seed, progress=original, evidence=evidence)
            except EngineRefusal:
                return False  # Nothing goes at so low a cost.
            return _is_reached(model, original, cut, asked)

        most = max((float(curve.costs[-1]) for curve in curves), default=0.0)
        if not curves or not reached(most):
            raise EngineRefusal(
                "Even with the largest share of each layer that was looked at "
                f"({max(LOOKED_AT.shares):.0%}) gone, the target is not reached. Ask for less, or "
                "use scope global."
            )
        low, high = 0.0, most
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return _at(curves, high)

    return shares


def allocated(prune: Prune, allocation: Allocation) -> Prune:
    """The spec with a share for each layer; what it says itself of layers goes before.

    A share may be 0.
    """
    own = (exactly(name, share) for name, share in allocation.items())
    update = {
        "scope": "layer",
        "target": FractionTarget.model_construct(remove=0.0),
        "layers": (*own, *prune.layers),
    }
    return prune.model_copy(update=update)


@dataclass(frozen=True)
class _Curve:
    """One layer, or several that lose units together: rising costs of rising shares, from 0."""

    layers: tuple[str, ...]
    shares: NDArray[np.float64]
    costs: NDArray[np.float64]


def _curves(found: SensitivityFigure) -> list[_Curve]:
    whole = found.whole or 0.0
    rows = [
        (
            row.layers,
            [
                (share, value - whole)
                for share, value in zip(found.shares, row.values, strict=True)
                if value is not None
            ],
        )
        for row in found.layers
    ]
    rows = [(names, points) for names, points in rows if points]
    scale = max((abs(cost) for _, points in rows for _, cost in points), default=0.0) or 1.0
    curves = []
    for names, points in rows:
        shares, costs = (np.array([0.0, *each]) for each in zip(*sorted(points), strict=True))
        # Cuts that make the loss smaller cost nothing.
        rising = np.maximum.accumulate(np.maximum(costs, 0.0)) + SLOPE * scale * shares
        curves.append(_Curve(names, shares, rising))
    return curves


def _at(curves: list[_Curve], cost: float) -> Allocation:
    return {
        name: float(np.interp(cost, curve.costs, curve.shares))
        for curve in curves
        for name in curve.layers
    }


def _is_reached(model: Any, original: engine.Progress, cut: engine.Cut, asked: Prune) -> bool:
    match asked.target:
        case FractionTarget(remove=remove):
            total = sum(row.prunable for row in cut.summary)
            return sum(row.removed for row in cut.summary) >= remove * total
        case MacsTarget(keep=keep):
            return engine.predict(model, cut).macs <= keep * original.macs
        case ParametersTarget(keep=keep):
            after = engine.predict(model, cut)
            left = after.parameters if asked.structured else after.nonzero_parameters
            return left <= keep * original.parameters
        case _:
            raise TypeError(f"scope sensitivity does not reach a target of {asked.target!r}")
