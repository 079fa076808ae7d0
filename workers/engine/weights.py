"""Choosing weights: one by one, in blocks, or n of every m."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.criteria import ThresholdCriterion
from app.domain.errors import EngineRefusal
from app.domain.prune import (
    BlockGranularity,
    FractionTarget,
    NmGranularity,
    ParametersTarget,
    Prune,
    WeightGranularity,
)
from workers.engine import graph
from workers.engine.counting import count_nonzero
from workers.engine.criteria import WEIGHT_CRITERIA
from workers.engine.cut import Progress, WeightCut
from workers.engine.evidence import Evidence
from workers.engine.masks import Mask, removal_count, smallest
from workers.engine.matrices import as_matrix
from workers.engine.overrides import Wish, wish
from workers.engine.patterns import Blocks, Matrix
from workers.engine.pieces import Kernel
from workers.engine.weight_rows import Row, asked, row, summary


def seeded(seed: int, name: str) -> np.random.Generator:
    """Random numbers that depend on the seed and a layer's name only."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def choose_weights(
    model: Any,
    prune: Prune,
    share: float,
    seed: int,
    progress: Progress,
    evidence: Evidence | None = None,
) -> WeightCut:
    """Choose the weights that are zero once `share` of the target is reached.

    Raises:
        EngineRefusal: nothing can be removed, or the target cannot be reached.
    """
    kernels, left_out = _kernels(model, prune, seed, progress, evidence or Evidence())
    fraction = None
    match prune:
        case Prune(granularity=NmGranularity() as pattern):
            gone = {k.key: k.n_of_m(pattern, share, k.wish.max_remove) for k in kernels}
        case Prune(criterion=ThresholdCriterion(quality=quality)):
            factor = share * quality
            gone = {k.key: _below(k, factor * progress.deviations[k.key]) for k in kernels}
        case _:
            fraction = _fraction(model, kernels, prune, share, progress)
            gone = _chosen(kernels, prune, fraction, share)
    rows = {k.key: row(k, gone[k.key], asked(k, prune, fraction, share), share) for k in kernels}
    masks = {k.key: ~k.weights(gone[k.key]) for k in kernels}
    return WeightCut(masks, summary(model, left_out | rows), progress.with_masks(masks))


def _kernels(
    model: Any, prune: Prune, seed: int, progress: Progress, evidence: Evidence
) -> tuple[list[Kernel], dict[str, Row]]:
    """The kernels that are to lose weights, and rows for those that are left out."""
    found: list[Kernel] = []
    left_out: dict[str, Row] = {}
    criterion = WEIGHT_CRITERIA[prune.criterion.kind]
    for key, variable in graph.kernels(model).items():
        wished = wish(graph.layer_of(key), prune)
        if wished.skip:
            left_out[key] = Row(note="skipped by the spec")
            continue
        matrix = None
        if not isinstance(prune.granularity, WeightGranularity):
            matrix = as_matrix(model.get_layer(graph.layer_of(key)), variable)
        if isinstance(matrix, str):
            left_out[key] = Row(note=matrix)
            continue
        values = graph.values(variable).astype(np.float32)
        saliency = criterion(values, seeded(seed, key), evidence.of(key, values.shape))
        found.append(
            _kernel(key, values != 0, saliency, progress.masks.get(key), wished, prune, matrix)
        )
    if not found:
        raise _refusal(model, prune, left_out)
    return found, left_out


def _kernel(
    key: str,
    nonzero: NDArray[Any],
    saliency: NDArray[Any],
    kept: Mask | None,
    wished: Wish,
    prune: Prune,
    matrix: Matrix | None,
) -> Kernel:
    blocks = None
    if matrix is not None and isinstance(prune.granularity, BlockGranularity):
        blocks = Blocks(matrix, prune.granularity.shape)
        saliency = blocks.means(saliency)
        nonzero = blocks.sums(nonzero)
        kept = None if kept is None else blocks.sums(kept) > 0
    if kept is not None:
        saliency = np.where(kept, saliency, -np.inf)
    pruned = None if kept is None else ~kept
    return Kernel(key, saliency, pruned, nonzero, wished, matrix, blocks)


def _refusal(model: Any, prune: Prune, left_out: dict[str, Row]) -> EngineRefusal:
    said = f"Model '{model.name}' has no weights to remove: it has no kernels, or the spec skips "
    if isinstance(prune.granularity, WeightGranularity):
        said += "all of them."
    else:
        said += (
            "them, or they are not matrices of inputs by outputs, as granularity "
            f"{prune.granularity.kind} needs; granularity weight takes any kernel."
        )
    reasons = {graph.layer_of(key): row.note or "" for key, row in left_out.items()}
    return EngineRefusal(
        said, errors=tuple({"field": name, "detail": why} for name, why in reasons.items())
    )


def _below(kernel: Kernel, threshold: float) -> Mask:
    gone: Mask = kernel.saliency < threshold
    if int(gone.sum()) > kernel.cap:
        gone = smallest(kernel.saliency, kernel.cap)
    return gone


def _chosen(kernels: list[Kernel], prune: Prune, fraction: float, step: float) -> dict[str, Mask]:
    choose = _layer_scope if prune.scope == "layer" else _global_scope
    return choose(kernels, fraction, step)


def _layer_scope(kernels: list[Kernel], fraction: float, step: float) -> dict[str, Mask]:
    return {k.key: smallest(k.saliency, k.count(fraction, step)) for k in kernels}


def _global_scope(kernels: list[Kernel], fraction: float, step: float) -> dict[str, Mask]:
    competing = [k for k in kernels if k.wish.remove is None]
    gone = _layer_scope([k for k in kernels if k.wish.remove is not None], fraction, step)
    if competing:
        saliency = np.concatenate([_capped(k).reshape(-1) for k in competing])
        count = min(removal_count(fraction, saliency.size), sum(k.cap for k in competing))
        chosen = smallest(saliency, max(count, sum(k.count(0.0, step) for k in competing)))
        ends = np.cumsum([k.size for k in competing])[:-1]
        for kernel, part in zip(competing, np.split(chosen, ends), strict=True):
            gone[kernel.key] = part.reshape(kernel.saliency.shape)
    return {k.key: gone[k.key] for k in kernels}


def _capped(kernel: Kernel) -> NDArray[Any]:
    if kernel.cap == kernel.size:
        return kernel.saliency
    return np.where(smallest(kernel.saliency, kernel.cap), kernel.saliency, np.inf)


def _fraction(
    model: Any, kernels: list[Kernel], prune: Prune, step: float, progress: Progress
) -> float:
    """The share of weights to remove so that `step` of the way to the target is done."""
    match prune.target:
        case FractionTarget(remove=remove):
            return step * remove
        case ParametersTarget(keep=keep):
            limit = (1.0 - step * (1.0 - keep)) * progress.parameters
        case _:
            raise EngineRefusal(
                f"Granularity {prune.granularity.kind} takes a fraction or a parameters target."
            )
    nonzero = sum(count_nonzero(v) for v in graph.variable_keys(model).values())

    def left(fraction: float) -> int:
        return nonzero - _newly_zero(kernels, prune, fraction, step)

    found = least(lambda fraction: left(fraction) <= limit)
    if found is None:
        raise EngineRefusal(
            f"The target keeps at most {keep:.4g} of the parameters, but the smallest share "
            f"that can be reached is {left(1.0) / progress.parameters:.4g}: biases, "
            "normalisation and skipped layers keep theirs. Ask for more to be kept."
        )
    return found


def _newly_zero(kernels: list[Kernel], prune: Prune, fraction: float, step: float) -> int:
    """How many weights become zero, without choosing them where pieces are single weights."""
    if isinstance(prune.granularity, BlockGranularity):
        gone = _chosen(kernels, prune, fraction, step)
        return sum(int(k.nonzero[gone[k.key]].sum()) for k in kernels)
    own = [k for k in kernels if prune.scope == "layer" or k.wish.remove is not None]
    total = sum(max(0, k.count(fraction, step) - k.zeros) for k in own)
    competing = [k for k in kernels if k not in own] if len(own) < len(kernels) else []
    if competing:
        count = min(
            removal_count(fraction, sum(k.size for k in competing)), sum(k.cap for k in competing)
        )
        total += max(0, count - sum(min(k.zeros, k.cap) for k in competing))
    return total


def least(fits: Callable[[float], bool]) -> float | None:
    """The smallest fraction in [0, 1] that fits, by bisection; None where even 1 does not."""
    if fits(0.0):
        return 0.0
    if not fits(1.0):
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
