"""The per-layer table, and what shrinking did."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from app.domain.metrics import LayerFigure, SparseFigure
from workers.engine import Counts, Shrunk

NAMED = 8
"""Layers that a note names before it says how many more there are."""


def per_layer(
    before: Counts,
    after: Counts,
    notes: Mapping[str, str],
    sparse: Mapping[str, SparseFigure] = MappingProxyType({}),
) -> tuple[LayerFigure, ...]:
    """Each layer of the original, beside what became of it."""
    later = {layer.name: layer for layer in after.layers}

    def figure(name: str, what: str) -> int | None:
        """A layer that was left out as a whole has none."""
        return getattr(later[name], what) if name in later else 0

    return tuple(
        LayerFigure.model_validate(
            {
                "name": layer.name,
                "class": layer.class_name,
                "parameters_before": layer.parameters,
                "parameters_after": figure(layer.name, "parameters"),
                "nonzero_after": figure(layer.name, "nonzero_parameters"),
                "macs_before": layer.macs,
                "macs_after": figure(layer.name, "macs"),
                "units_before": layer.units,
                "units_after": figure(layer.name, "units"),
                "note": notes.get(layer.name),
                "sparse": sparse.get(layer.name),
            }
        )
        for layer in before.layers
    )


def shrink_note(shrunk: Shrunk) -> str:
    """What shrinking did, in words."""
    many = "1 unit was" if shrunk.units == 1 else f"{shrunk.units:,} units were"
    sizes = [f"{name} {before} → {after}" for name, (before, after) in shrunk.removed.items()]
    text = f"{many} dead and removed without changing what the model computes: {_first(sizes)}."
    if shrunk.folded:
        count = sum(shrunk.folded.values())
        values = "1 constant value" if count == 1 else f"{count:,} constant values"
        layers = [key.rsplit("/", 2)[0] for key in shrunk.folded]
        text += f" {values} went into the biases of {_first(list(dict.fromkeys(layers)))}."
    return text


def _first(names: Sequence[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
