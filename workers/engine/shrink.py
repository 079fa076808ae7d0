"""Shrink: what zeros have made superfluous is removed, and the model computes what it computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.domain.errors import InternalError
from app.domain.prune import NmGranularity, Prune
from workers.engine import graph
from workers.engine.analysis import Analysis, Kept, analyse
from workers.engine.dead import Dead, find_dead
from workers.engine.equality import Equality, prove_same
from workers.engine.masks import Mask
from workers.engine.matrices import as_matrix
from workers.engine.patterns import holds
from workers.engine.surgery import reduced


@dataclass(frozen=True)
class Shrunk:
    """A model without its dead units."""

    model: Any
    """The model that was given, where nothing in it was dead."""
    masks: Mapping[str, Mask]
    """The masks of what is left, by variable key."""
    units: int = 0
    """How many were dead: a unit that several layers make counts once."""
    removed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Columns before and after of each maker that lost some: the layer's path, or that with the
    kind of unit (`attention.key_dim`)."""
    folded: Mapping[str, int] = field(default_factory=dict)
    """By key of a bias, how many constant inputs other than 0 were added to it."""
    equality: Equality | None = None
    """How far outputs are from those before; None where nothing went."""
    note: str | None = None
    """Why dead units stay."""


def shrink(
    model: Any,
    *,
    masks: Mapping[str, Mask] | None = None,
    prune: Prune | None = None,
    seed: int = 0,
) -> Shrunk:
    """Remove units that nobody reads, and units that are constant, whose value goes into biases.

    The model that is given is not touched. `workers.engine.dead` has the exact rule. Where the
    masks keep n of every m weights, and would no longer once units are gone, all units stay.

    Args:
        model: a built Sequential or Functional model whose kernels hold zeros.
        masks: True where a weight stays, by variable key; cut down to what is left.
        prune: what made the zeros; units of layers that it skips stay.
        seed: of the probe inputs.

    Raises:
        EngineRefusal: the model has no graph that can be read.
        InternalError: the smaller model computes something else.
    """
    masks = dict(masks or {})
    analysis = analyse(model)
    dead = find_dead(analysis, prune, seed)
    if dead.keep.all():
        return Shrunk(model, masks)
    kept = analysis.kept(dead.keep)
    small = reduced(analysis, kept)
    units = int(np.count_nonzero(~dead.keep))
    left = _remaining(analysis, kept, masks)
    if prune is not None and isinstance(prune.granularity, NmGranularity):
        n, m = prune.granularity.n, prune.granularity.m
        if _runs_hold(model, masks, n, m) and not _runs_hold(small, left, n, m):
            return Shrunk(
                model,
                masks,
                note=f"{units} dead units stay: without them, weights would move up, and runs of "
                f"{m} would no longer hold at most {n}.",
            )
    folded = _fold(analysis, dead, kept, small)
    equality = prove_same(model, small, seed=seed)
    if not equality.holds:
        raise InternalError(
            "The model without its dead units does not compute what it computed with them: outputs "
            f"differ by {equality.max_abs_difference:g} at a scale of {equality.output_scale:g}. "
            "Nothing is handed out. Please report this model's architecture."
        )
    sizes = {
        name: (maker.axis.size or 0, kept.count(maker.axis) or 0)
        for name, maker in analysis.walk.makers.items()
    }
    return Shrunk(
        model=small,
        masks=left,
        units=units,
        removed={name: (old, new) for name, (old, new) in sizes.items() if new < old},
        folded=folded,
        equality=equality,
    )


def _fold(analysis: Analysis, dead: Dead, kept: Kept, small: Any) -> dict[str, int]:
    """Add to the biases of `small` what constant units that went have contributed to them."""
    if dead.constants is None:
        return {}
    keys = {id(variable): key for key, variable in graph.variable_keys(analysis.model).items()}
    targets = graph.variable_keys(small)
    folded = {}
    for read in dead.constants.reads.values():
        gone = np.zeros(read.values.size, dtype=np.bool_)
        for line in read.axis.lines:
            gone |= dead.constant[analysis.root_of[line]]
        constant = np.where(gone, read.values, 0.0)
        if not constant.any():
            continue
        kernel = graph.values(read.layer.kernel).astype(np.float64)
        # A window sees the constant at each of its positions.
        rows = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        bias = graph.values(read.layer.bias)
        (entries,) = analysis.kept_entries(read.layer.bias, kept)
        key = keys[id(read.layer.bias)]
        targets[key].assign((bias + constant @ rows).astype(bias.dtype)[entries])
        folded[key] = int(np.count_nonzero(constant))
    return folded


def _remaining(analysis: Analysis, kept: Kept, masks: Mapping[str, Mask]) -> dict[str, Mask]:
    variables = graph.variable_keys(analysis.model)
    return {
        key: mask[np.ix_(*analysis.kept_entries(variables[key], kept))]
        for key, mask in masks.items()
    }


def _runs_hold(model: Any, masks: Mapping[str, Mask], n: int, m: int) -> bool:
    variables = graph.variable_keys(model)
    for key, mask in masks.items():
        matrix = as_matrix(model.get_layer(graph.layer_of(key)), variables[key])
        if not isinstance(matrix, str) and not holds(matrix.fold(mask), n, m):
            return False
    return True
