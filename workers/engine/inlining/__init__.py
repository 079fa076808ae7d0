"""Models that hold layers of KerasHub, as stock Keras layers.

A backbone's blocks hold stock layers inside, where neither their heads nor their widths can be
cut. They are replaced by the calls they make. What results computes the same, which is checked
with other weights than the model's, and loads without KerasHub if all of its layers could be
replaced.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workers.engine import graph
from workers.engine.equality import TOLERANCE, prove_same
from workers.engine.inlining.builder import Builder, holds_hub
from workers.engine.inlining.expansions import EXPANSIONS
from workers.engine.inlining.trace import CannotInline, words

NAMED = 10
"""Layers that a note names."""


@dataclass(frozen=True)
class Inlined:
    """A model of stock layers, as far as possible."""

    model: Any
    """The given model itself where there was nothing to replace, or nothing could be."""
    stays: Mapping[str, str] = field(default_factory=dict)
    """Why layers of KerasHub remain, by their names; the model's own name if nothing was done."""
    replaced: bool = False
    """Whether this is another model than the given one."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result should know: sentences, none for a model of stock layers."""
        said = []
        if self.replaced:
            said.append(
                "Layers of KerasHub were replaced by the Keras layers they are made of, which "
                "compute the same. Layers that came out of one have its name in front."
            )
            if not self.stays:
                said.append("The result loads without KerasHub.")
        for reason in dict.fromkeys(self.stays.values()):
            names = [name for name, why in self.stays.items() if why == reason]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            said.append(f"Nothing is cut inside {', '.join(names[:NAMED])}{more}: {reason}.")
        if self.stays:
            said.append("To load the result, install KerasHub (pip install keras-hub).")
        return tuple(said)


def inlined(model: Any, *, seed: int = 0) -> Inlined:
    """Replace layers of KerasHub by the stock layers they are made of.

    Layers keep their names; those that come out of another one get its name in front. The model
    given is not changed, and the result is not compiled.

    Raises:
        EngineRefusal: the model has no graph that can be read.
    """
    graph.ensure_supported(model)
    if not holds_hub(model):
        return Inlined(model)
    builder = Builder(EXPANSIONS)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = builder.model(model)
            builder.copy_weights()
            difference = _difference(model, found, builder, seed)
    except Exception as error:  # noqa: BLE001  (code of KerasHub may fail in any way)
        reason = f"its layers cannot be taken apart: {words(error, 300)}"
        return Inlined(model, {model.name: reason})
    if not difference <= TOLERANCE:  # Nor if it is no number.
        reason = f"taken apart it differs by {difference:.1e} of its outputs' scale"
        return Inlined(model, {model.name: reason})
    return Inlined(found, dict(builder.stays), replaced=True)


def _difference(model: Any, found: Any, builder: Builder, seed: int) -> float:
    """Largest difference as a share of the scale, with weights that are all shaken.

    A weight that is written into the graph as a constant would not be shaken with the others.
    """
    random = np.random.default_rng(seed)
    kept = [(v, np.array(graph.values(v))) for v in model.variables if graph.is_float(v)]
    try:
        for variable, values in kept:
            variable.assign(_shaken(values, random))
        builder.copy_weights()
        difference = prove_same(model, found, seed=seed).relative
    finally:
        for variable, values in kept:
            variable.assign(values)
    builder.copy_weights()
    return difference


def _shaken(values: Any, random: np.random.Generator) -> Any:
    """By up to a quarter and a little more; positive ones stay positive (variances)."""
    grown = values * random.uniform(1.0, 1.25, values.shape)
    return (grown + random.uniform(0.0, 0.02, values.shape)).astype(values.dtype)


__all__ = ["CannotInline", "Inlined", "inlined"]
