"""The per-layer table."""

from collections.abc import Mapping

from app.domain.metrics import LayerFigure
from workers.engine import Counts


def per_layer(before: Counts, after: Counts, notes: Mapping[str, str]) -> tuple[LayerFigure, ...]:
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
            }
        )
        for layer in before.layers
    )
