"""What was chosen to go, and what must be remembered between the steps of a schedule."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from workers.engine.masks import Mask


@dataclass(frozen=True)
class Progress:
    """The original model, as far as later steps of a schedule need it.

    Shares and targets refer to the original model, so a step removes what is still missing.
    """

    parameters: int
    macs: int
    units: Mapping[str, int] = field(default_factory=dict)
    """Units of each group of coupled units, by the group's key."""
    deviations: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation of each kernel, by variable key."""
    blocks: int = 0
    """Layers and residual blocks that could be left out."""
    masks: Mapping[str, Mask] = field(default_factory=dict)
    """Weights that stay so far; not part of the JSON."""

    def to_json(self) -> str:
        """Everything but the masks, which belong into an .npz."""
        return json.dumps(
            {
                "parameters": self.parameters,
                "macs": self.macs,
                "units": dict(self.units),
                "deviations": dict(self.deviations),
                "blocks": self.blocks,
            }
        )

    @classmethod
    def from_json(cls, text: str, masks: Mapping[str, Mask] | None = None) -> Self:
        """What `to_json` wrote, with the masks of that moment."""
        return cls(**json.loads(text), masks=dict(masks or {}))

    def with_masks(self, masks: Mapping[str, Mask]) -> "Progress":
        """The same origin with newer masks."""
        return replace(self, masks=dict(masks))


@dataclass(frozen=True)
class LayerCut:
    """What a cut does to one layer: weights of its kernels, or units (columns of its kernel)."""

    name: str
    class_name: str
    before: int
    removed: int
    """In this step. With a cut of weights: all that are zero by mask after it."""
    asked: int | None
    """By the share alone, before limits; None where layers compete."""
    note: str | None
    """Why it is not what was asked for."""
    prunable: int = 0
    """How many the target counts: units as many as the original has."""


@dataclass(frozen=True)
class WeightCut:
    """Single weights become zero; shapes stay, until `shrink`."""

    is_structured: ClassVar[bool] = False
    masks: Mapping[str, Mask]
    """True where a weight stays, by variable key (`workers.engine.graph.variable_keys`)."""
    summary: tuple[LayerCut, ...]
    progress: Progress


@dataclass(frozen=True)
class UnitCut:
    """Units are physically removed."""

    is_structured: ClassVar[bool] = True
    removed: Mapping[str, NDArray[np.int64]]
    """Columns that go from each maker, ascending, by its name: the layer's path, or that with the
    kind of unit (`attention.heads`)."""
    summary: tuple[LayerCut, ...]
    progress: Progress


@dataclass(frozen=True)
class DepthCut:
    """Layers and residual blocks are left out."""

    is_structured: ClassVar[bool] = True
    blocks: tuple[str, ...]
    """Names of those that go (`workers.engine.depth.blocks`)."""
    summary: tuple[LayerCut, ...]
    progress: Progress


Cut = WeightCut | UnitCut | DepthCut
