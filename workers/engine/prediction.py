"""A plan's figures, without building the model."""

from typing import Any

import numpy as np

from app.domain.errors import EngineRefusal
from workers.engine import graph
from workers.engine.analysis import Analysis, analyse
from workers.engine.channels import Shape
from workers.engine.counting import Counts, Use, count_nonzero, first_outputs, tally, uses
from workers.engine.cut import Cut, UnitCut, WeightCut
from workers.engine.masks import Mask

Prediction = Counts


class Sizes:
    """Parameters and MACs of what remains, quick enough to search over."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._variables = list(graph.variable_keys(analysis.model).values())
        used, _ = uses(analysis.model)
        self._uses: list[Use] = [use for each in used.values() for use in each]

    def parameters(self, keep: Mask) -> int:
        """Number of parameters when only units with `keep[root]` stay."""
        return sum(self._analysis.kept_size(variable, keep) for variable in self._variables)

    def macs(self, keep: Mask) -> int:
        """Multiply-accumulates per sample when only units with `keep[root]` stay."""
        return sum(
            use.positions * self._analysis.kept_size(use.variable, keep) for use in self._uses
        )


def predict(model: Any, cut: Cut) -> Prediction:
    """What `count(apply(model, cut))` will say.

    Raises:
        EngineRefusal: the cut does not fit the model.
    """
    graph.ensure_supported(model)
    return _masked(model, cut) if isinstance(cut, WeightCut) else _reduced(model, cut)


def _masked(model: Any, cut: WeightCut) -> Prediction:
    masks = {id(variable): cut.masks.get(key) for key, variable in _keyed(model)}
    outputs = first_outputs(model)

    def nonzero(variable: Any) -> int:
        mask = masks.get(id(variable))
        if mask is None:
            return count_nonzero(variable)
        return int(np.count_nonzero(graph.values(variable)[mask]))

    def describe(layer: Any) -> tuple[int | None, Shape | None]:
        tensor = outputs.get(layer.name)
        return graph.output_units(layer), None if tensor is None else tuple(tensor.shape)

    return tally(model, graph.size_of, nonzero, describe)


def _keyed(model: Any) -> list[tuple[str, Any]]:
    return list(graph.variable_keys(model).items())


def _reduced(model: Any, cut: UnitCut) -> Prediction:
    analysis = analyse(model)
    keep = kept_units(analysis, cut)
    outputs = first_outputs(model)

    def size(variable: Any) -> int:
        return analysis.kept_size(variable, keep)

    def nonzero(variable: Any) -> int:
        values = graph.values(variable)
        return int(np.count_nonzero(values[np.ix_(*analysis.kept_entries(variable, keep))]))

    def describe(layer: Any) -> tuple[int | None, Shape | None]:
        units = graph.output_units(layer)
        if layer.name in analysis.walk.makers:
            units = int(keep[analysis.roots(analysis.walk.makers[layer.name].ids)].sum())
        tensor = outputs.get(layer.name)
        if tensor is None:
            return units, None
        left = analysis.shape_left(analysis.walk.tensors[id(tensor)], keep)
        known = tuple(tensor.shape[1:])
        shape = tuple(None if a is None else b for a, b in zip(known, left, strict=True))
        return units, (tensor.shape[0], *shape)

    return tally(model, size, nonzero, describe)


def kept_units(analysis: Analysis, cut: UnitCut) -> Mask:
    """One entry per id: whether its unit stays.

    Raises:
        EngineRefusal: the cut was not made for this model.
    """
    keep = analysis.keep_all()
    lines = {name: analysis.roots(maker.ids) for name, maker in analysis.walk.makers.items()}
    for name, columns in cut.removed.items():
        if name not in lines or (columns.size and columns.max() >= lines[name].size):
            raise EngineRefusal(f"The cut of layer '{name}' does not fit '{analysis.model.name}'.")
        keep[lines[name][columns]] = False
    for name, roots in lines.items():
        gone = np.flatnonzero(~keep[roots])
        frozen = any(root in analysis.reasons for root in roots[gone].tolist())
        if frozen or not np.array_equal(gone, np.sort(cut.removed.get(name, gone[:0]))):
            raise EngineRefusal(f"The cut of layer '{name}' does not fit '{analysis.model.name}'.")
    return keep
