"""Holding samples out: deterministic by seed, class by class where there are classes."""

from typing import Any

import numpy as np

from app.domain.errors import InvalidDataset

Array = np.ndarray[Any, Any]


def hold_out(
    count: int, share: float, seed: int | tuple[int, ...], labels: Array | None = None
) -> tuple[Array, Array]:
    """Indexes of the samples that stay and of those held out, each ascending.

    max(1, round(count·share)) samples are held out, but never the last one. With labels the
    share holds in every class, to within one sample: each class gives ⌊its share⌋, and the
    samples still wanting come from the classes with the largest fractions, smaller labels first
    among equals. Labels that occur once are taken together as one class.

    Args:
        count: number of samples.
        share: fraction to hold out, in (0, 1).
        seed: the same seed gives the same indexes.
        labels: one per sample, shape (count,); None draws from all samples alike.

    Raises:
        InvalidDataset: there are fewer than two samples.
    """
    if count < 2:
        raise InvalidDataset(
            f"Expected at least 2 samples to hold some out; there is {count}. Add samples."
        )
    wanted = min(count - 1, max(1, round(count * share)))
    random = np.random.default_rng(seed)
    groups = np.zeros(count, dtype=np.int64) if labels is None else _groups(labels)
    sizes = np.bincount(groups)
    quotas = _quotas(sizes, wanted)
    # Shuffle first and sort by class after: within a class the order is then random.
    order = random.permutation(count)
    order = order[np.argsort(groups[order], kind="stable")]
    place = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_held = np.zeros(count, dtype=bool)
    is_held[order[place < np.repeat(quotas, sizes)]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def _groups(labels: Array) -> Array:
    """Class numbers from 0, in the order of the labels; all that occur once share the last."""
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    single = sizes == 1
    numbers = np.where(single, np.count_nonzero(~single), np.cumsum(~single) - 1)
    groups: Array = numbers[inverse]
    return groups


def _quotas(sizes: Array, wanted: int) -> Array:
    """How many of each class are held out; they sum to `wanted`, and no class is used up."""
    exact = sizes * (wanted / sizes.sum())
    quotas: Array = np.minimum(np.floor(exact).astype(np.int64), np.maximum(sizes - 1, 0))
    first = np.argsort(-(exact - np.floor(exact)), kind="stable")
    while (missing := wanted - int(quotas.sum())) > 0:
        # A class that would be used up is spared as long as another one can give.
        able = [index for index in first if quotas[index] < sizes[index] - 1]
        able = able or [index for index in first if quotas[index] < sizes[index]]
        quotas[able[:missing]] += 1
    return quotas
