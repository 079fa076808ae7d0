"""Choosing units: columns of kernels, with everything that is coupled to them."""

from app.domain.prune import Prune
from workers.engine.analysis import Analysis
from workers.engine.budgets import OutOfReach, keep, reach
from workers.engine.candidates import candidates
from workers.engine.cut import Progress, UnitCut
from workers.engine.evidence import Evidence
from workers.engine.prediction import removed_columns
from workers.engine.unit_rows import KINDS, refusal, summary


def choose_units(
    analysis: Analysis,
    prune: Prune,
    share: float,
    seed: int,
    progress: Progress,
    evidence: Evidence | None = None,
) -> UnitCut:
    """Choose the units to remove so that `share` of the target is reached.

    Raises:
        EngineRefusal: nothing can be removed, or the target cannot be reached.
    """
    found = candidates(analysis, prune, seed, progress, evidence)
    if not found:
        kind = KINDS[prune.granularity.kind]
        raise refusal(
            f"No {kind} of model '{analysis.model.name}' can be removed.", analysis, prune
        )
    try:
        reached = reach(analysis, found, prune, share, progress)
    except OutOfReach as missed:
        raise refusal(
            f"The target keeps at most {missed.keep:.4g} of the {missed.what}, but the smallest "
            f"share that can be reached is {missed.share:.4g}: every layer keeps "
            f"{prune.min_units} or more of its units, and some keep all.",
            analysis,
            prune,
        ) from missed
    removed = removed_columns(analysis, keep(analysis, found, reached.choice))
    rows = summary(analysis, found, prune, reached.choice, reached.fraction, share)
    return UnitCut(removed, rows, progress)
