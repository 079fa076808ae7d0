"""A plan's figures, without building the model."""

from typing import Any

import numpy as np

from app.domain.errors import EngineRefusal
from workers.engine import graph
from workers.engine.analysis import Analysis, analyse
from workers.engine.counting import Counts, count_nonzero, kept_size, macs_of, tally
from workers.engine.cut import Cut, DepthCut, UnitCut, WeightCut
from workers.engine.masks import Mask

Prediction = Counts


def count(model: Any) -> Counts:
    """Count a built Sequential or Functional model.

    Raises:
        EngineRefusal: the model has no graph that can be read.
    """
    return analyse(model).counts


class Sizes:
    """Parameters and MACs of what remains, quick enough to search over."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._variables = list(graph.variable_keys(analysis.model).values())

    def parameters(self, keep: Mask) -> int:
        """Number of parameters when only units with `keep[root]` stay."""
        kept = self._analysis.kept(keep)
        return sum(kept_size(self._analysis.walk, variable, kept) for variable in self._variables)

    def macs(self, keep: Mask) -> int:
        """Multiply-accumulates per sample when only units with `keep[root]` stay."""
        kept = self._analysis.kept(keep)
        return sum(macs_of(work, kept) for work in self._analysis.walk.works)


def predict(model: Any, cut: Cut) -> Prediction:
    """What `count(apply(model, cut))` will say.

    Raises:
        EngineRefusal: the cut does not fit the model.
    """
    analysis = analyse(model)
    if isinstance(cut, WeightCut):
        return _masked(analysis, cut)
    if isinstance(cut, DepthCut):
        return _shallower(analysis, cut)
    keep = kept_units(analysis, cut)
    kept = analysis.kept(keep)

    def nonzero(variable: Any) -> int:
        values = graph.values(variable)
        return int(np.count_nonzero(values[np.ix_(*analysis.kept_entries(variable, kept))]))

    return tally(model, analysis.walk, kept, nonzero)


def _shallower(analysis: Analysis, cut: DepthCut) -> Prediction:
    gone = {row.name for row in cut.summary if row.removed}
    joints = {name.rpartition("…")[2] for name in cut.blocks}
    rows = [
        row
        for row in analysis.counts.layers
        if row.name.split("/")[0] not in gone and row.name not in joints
    ]
    whole = analysis.counts
    return Counts(
        parameters=sum(row.parameters for row in rows),
        nonzero_parameters=sum(row.nonzero_parameters for row in rows),
        macs=sum(row.macs for row in rows),
        macs_exact=whole.macs_exact,
        layers=tuple(rows),
    )


def _masked(analysis: Analysis, cut: WeightCut) -> Prediction:
    keys = graph.variable_keys(analysis.model)
    masks = {id(variable): cut.masks.get(key) for key, variable in keys.items()}

    def nonzero(variable: Any) -> int:
        mask = masks.get(id(variable))
        if mask is None:
            return count_nonzero(variable)
        return int(np.count_nonzero(graph.values(variable)[mask]))

    return tally(analysis.model, analysis.walk, analysis.kept(analysis.keep_all()), nonzero)


def kept_units(analysis: Analysis, cut: UnitCut) -> Mask:
    """One entry per name: whether its unit stays. A unit goes where all its columns go.

    Raises:
        EngineRefusal: the cut was not made for this model.
    """
    keep = analysis.keep_all()
    makers = analysis.walk.makers
    for name, columns in cut.removed.items():
        if name not in makers or (columns.size and columns.max() >= (makers[name].axis.size or 0)):
            raise EngineRefusal(f"The cut of layer '{name}' does not fit '{analysis.model.name}'.")
        stays = np.ones(makers[name].axis.size or 0, dtype=np.bool_)
        stays[columns] = False
        for line in makers[name].axis.lines:
            roots = analysis.root_of[line]
            left = np.bincount(roots[stays], minlength=keep.size)
            gone = np.unique(roots[~stays])
            keep[gone[left[gone] == 0]] = False
    kept = analysis.kept(keep)
    frozen = any(root in analysis.reasons for root in np.flatnonzero(~keep).tolist())
    for name, maker in makers.items():
        gone = np.flatnonzero(~kept(maker.axis))
        if frozen or not np.array_equal(gone, np.sort(cut.removed.get(name, gone[:0]))):
            raise EngineRefusal(f"The cut of layer '{name}' does not fit '{analysis.model.name}'.")
    return keep


def removed_columns(analysis: Analysis, keep: Mask) -> dict[str, Any]:
    """The columns of each maker that go, ascending; what `kept_units` reads back."""
    kept = analysis.kept(keep)
    found = {
        name: np.flatnonzero(~kept(maker.axis)) for name, maker in analysis.walk.makers.items()
    }
    return {name: gone for name, gone in found.items() if gone.size}
