"""Surgery: a new, smaller model of plain Keras layers. The old one is never touched."""

from typing import Any

import numpy as np

from workers.engine import graph
from workers.engine.analysis import Analysis, analyse
from workers.engine.cut import Cut, UnitCut
from workers.engine.masks import Mask, masks_by_variable
from workers.engine.prediction import kept_units
from workers.engine.rules import RULES


def apply(model: Any, cut: Cut) -> Any:
    """Carry a cut out on a copy.

    A cut of weights gives the same architecture with zeros, a cut of units smaller layers. Names
    of layers, inputs and outputs, remaining weights, state that is not trained, `trainable` flags
    and dtypes are kept. The copy is not compiled.

    Raises:
        EngineRefusal: the cut does not fit the model.
    """
    graph.ensure_supported(model)
    if isinstance(cut, UnitCut):
        analysis = analyse(model)
        return _reduced(analysis, kept_units(analysis, cut))
    masks = masks_by_variable(model, cut)
    copy = _rebuilt(model, {})
    _copy_weights(model, copy, None)
    for key, variable in graph.variable_keys(copy).items():
        if key in masks:
            values = graph.values(variable)
            variable.assign(np.where(masks[key], values, np.zeros_like(values)))
    return copy


def _reduced(analysis: Analysis, keep: Mask) -> Any:
    settings: dict[str, dict[str, Any]] = {}
    for edit in analysis.walk.edits.values():
        value = edit.render(analysis.shape_left(edit.ids, keep))
        settings.setdefault(edit.layer, {})[edit.setting] = value
    copy = _rebuilt(analysis.model, settings)
    _copy_weights(analysis.model, copy, (analysis, keep))
    return copy


def _rebuilt(model: Any, settings: dict[str, dict[str, Any]]) -> Any:
    """The model's architecture with other layer settings, and fresh weights."""
    config = model.get_config()
    known = {layer.name for layer in model.layers if type(layer) in RULES}
    for entry in config["layers"]:
        name = entry["config"].get("name")
        if name in known:
            # Shapes as they were; the layer is built anew by the call that follows.
            entry.pop("build_config", None)
        entry["config"].update(settings.get(name, {}))
    return type(model).from_config(config)


def _copy_weights(old: Any, new: Any, kept: tuple[Analysis, Mask] | None) -> None:
    for layer in old.layers:
        twin = new.get_layer(layer.name)
        for source, target in zip(layer.variables, twin.variables, strict=True):
            values = graph.values(source)
            if kept is not None:
                analysis, keep = kept
                values = values[np.ix_(*analysis.kept_entries(source, keep))]
            target.assign(values)
        if not graph.is_graph(layer):
            twin.trainable = layer.trainable
