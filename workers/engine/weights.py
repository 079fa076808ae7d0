"""Choosing single weights."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.spec import FractionTarget, ParametersTarget, Prune, ThresholdCriterion
from workers.engine import graph
from workers.engine.counting import count_nonzero
from workers.engine.criteria import WEIGHT_CRITERIA
from workers.engine.cut import LayerCut, Progress, WeightCut
from workers.engine.evidence import Evidence
from workers.engine.masks import Mask, most, removal_count, smallest
from workers.engine.overrides import Wish, wish


@dataclass(frozen=True)
class Kernel:
    """A kernel that is to lose weights; `pruned` are gone already."""

    key: str
    saliency: NDArray[Any]
    pruned: Mask | None
    zeros: int
    wish: Wish

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.saliency.size

    @property
    def cap(self) -> int:
        """How many may go at most."""
        limit = self.wish.max_remove
        return self.size if limit is None else most(limit, self.size)

    def asked(self, share: float, step: float) -> int:
        """How many the share alone asks for, or the layer's own share at this step."""
        own = self.wish.remove
        return removal_count(share if own is None else step * own, self.size)

    def count(self, share: float, step: float) -> int:
        """How many go: what is gone stays gone, and max_remove holds."""
        gone = 0 if self.pruned is None else int(self.pruned.sum())
        return max(gone, min(self.asked(share, step), self.cap))


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
    kernels = _kernels(model, prune, seed, progress, evidence or Evidence())
    if isinstance(prune.criterion, ThresholdCriterion):
        factor = share * prune.criterion.quality
        gone = {k.key: _below(k, factor * progress.deviations[k.key]) for k in kernels}
        fraction = None
    else:
        fraction = _fraction(model, kernels, prune, share, progress)
        choose = _layer_scope if prune.scope == "layer" else _global_scope
        gone = choose(kernels, fraction, share)
    masks = {key: ~mask for key, mask in gone.items()}
    by_layer = fraction if prune.scope == "layer" else None
    summary = _summary(model, prune, kernels, gone, by_layer, share)
    return WeightCut(masks, summary, progress.with_masks(masks))


def _kernels(
    model: Any, prune: Prune, seed: int, progress: Progress, evidence: Evidence
) -> list[Kernel]:
    found = []
    criterion = WEIGHT_CRITERIA[prune.criterion.kind]
    for key, variable in graph.kernels(model).items():
        wished = wish(graph.layer_of(key), prune)
        if wished.skip:
            continue
        values = graph.values(variable).astype(np.float32)
        saliency = criterion(values, seeded(seed, key), evidence.of(key, values.shape))
        mask = progress.masks.get(key)
        if mask is not None:
            saliency = np.where(mask, saliency, -1.0)
        zeros = values.size - int(np.count_nonzero(values))
        found.append(Kernel(key, saliency, None if mask is None else ~mask, zeros, wished))
    if not found:
        raise EngineRefusal(
            f"Model '{model.name}' has no weights to remove: it has no kernels, or the spec "
            "skips all of them."
        )
    return found


def _below(kernel: Kernel, threshold: float) -> Mask:
    gone: Mask = kernel.saliency < threshold
    if int(gone.sum()) > kernel.cap:
        gone = smallest(kernel.saliency, kernel.cap)
    return gone


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
            raise EngineRefusal("Granularity weight takes a fraction or a parameters target.")
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


def _summary(
    model: Any,
    prune: Prune,
    kernels: list[Kernel],
    gone: Mapping[str, Mask],
    fraction: float | None,
    step: float,
) -> tuple[LayerCut, ...]:
    chosen = {k.key: k for k in kernels}
    rows: dict[str, LayerCut] = {}
    for key, variable in graph.kernels(model).items():
        name = graph.layer_of(key)
        kernel = chosen.get(key)
        known = rows.get(name)
        before = graph.size_of(variable) + (known.before if known else 0)
        removed = (int(gone[key].sum()) if kernel else 0) + (known.removed if known else 0)
        asked = None
        if kernel is not None and (fraction is not None or kernel.wish.remove is not None):
            asked = kernel.asked(fraction or 0.0, step) + ((known.asked or 0) if known else 0)
        note = None
        if kernel is None:
            note = "skipped by the spec"
        elif kernel.wish.max_remove is not None and int(gone[key].sum()) == kernel.cap:
            note = f"held at its max_remove of {kernel.wish.max_remove:.4g}"
        kind = type(model.get_layer(name)).__name__
        rows[name] = LayerCut(name, kind, before, removed, asked, note)
    return tuple(rows.values())
