"""Surgery: a new, smaller model of plain Keras layers. The old one is never touched."""

from typing import Any

import keras
import numpy as np

from workers.engine import graph
from workers.engine.analysis import Analysis, Kept, analyse
from workers.engine.channels import Place
from workers.engine.cut import Cut, DepthCut, UnitCut
from workers.engine.depth import without
from workers.engine.masks import masks_by_variable
from workers.engine.prediction import kept_units

Settings = dict[int, dict[str, Any]]
"""New settings by the `id` of the layer that they belong to."""
Arguments = dict[int, dict[Place, Any]]
"""New arguments by the `id` of the call that they belong to."""


def apply(model: Any, cut: Cut) -> Any:
    """Carry a cut out on a copy.

    A cut of weights gives the same architecture with zeros, a cut of units smaller layers, a cut of
    depth fewer of them. Names
    of layers, inputs and outputs, remaining weights, state that is not trained, `trainable` flags
    and dtypes are kept. The copy is not compiled.

    Raises:
        EngineRefusal: the cut does not fit the model.
    """
    graph.ensure_supported(model)
    if isinstance(cut, DepthCut):
        return without(model, cut)
    if isinstance(cut, UnitCut):
        analysis = analyse(model)
        return reduced(analysis, analysis.kept(kept_units(analysis, cut)))
    masks = masks_by_variable(model, cut)
    copy = _rebuilt(model, {}, {})
    _copy_weights(model, copy, None)
    for key, variable in graph.variable_keys(copy).items():
        if key in masks:
            values = graph.values(variable)
            variable.assign(np.where(masks[key], values, np.zeros_like(values)))
    return copy


def reduced(analysis: Analysis, kept: Kept) -> Any:
    """A copy of the analysed model that has what stays only."""
    settings: Settings = {}
    for edit in analysis.walk.edits.values():
        value = edit.render(tuple(kept.count(axis) for axis in edit.axes))
        settings.setdefault(id(edit.layer), {})[edit.setting] = value
    arguments: Arguments = {}
    for argument in analysis.walk.arguments:
        stays = tuple(None if axis.size is None else kept(axis) for axis in argument.axes)
        arguments.setdefault(id(argument.node), {})[argument.position] = argument.render(stays)
    copy = _rebuilt(analysis.model, settings, arguments)
    _copy_weights(analysis.model, copy, (analysis, kept))
    return copy


def _rebuilt(model: Any, settings: Settings, arguments: Arguments) -> Any:
    """The model's architecture with other settings and arguments, and fresh weights."""
    plain = graph.plain(model)
    config = plain.get_config()
    _edit_graph(config, plain, settings, arguments)
    return type(plain).from_config(config)


def _edit_graph(
    config: dict[str, Any],
    model: Any,
    settings: Settings,
    arguments: Arguments,
) -> None:
    inner = dict(graph.children(model))
    nodes: dict[str, list[Any]] = {}
    for node in graph.calls(model):
        if node.input_tensors:
            nodes.setdefault(node.operation.name, []).append(node)
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"].get("name")
        layer = inner.get(name)
        if layer is None:
            continue
        _edit_layer(entry, layer, settings, arguments)
        # Calls are listed in the order in which the layer was called.
        order = layer._inbound_nodes
        called = sorted(nodes.get(name, ()), key=order.index)
        for node, call in zip(called, entry.get("inbound_nodes", ()), strict=False):
            for place, value in arguments.get(id(node), {}).items():
                kind = "kwargs" if isinstance(place[0], str) else "args"
                written = keras.saving.serialize_keras_object(value)
                call[kind] = _with(call[kind], place, written)


def _with(where: Any, place: Place, value: Any) -> Any:
    """A copy of nested arguments with another value at one place."""
    if not place:
        return value
    first, rest = place[0], place[1:]
    copy: Any = dict(where) if isinstance(where, dict) else list(where)
    # A keyword that was not given is given now.
    copy[first] = _with(where[first] if rest else None, rest, value)
    return copy


def _edit_layer(
    entry: dict[str, Any],
    layer: Any,
    settings: Settings,
    arguments: Arguments,
) -> None:
    if graph.is_graph(layer):
        entry.pop("build_config", None)
        entry["config"].pop("build_input_shape", None)
        _edit_graph(entry["config"], layer, settings, arguments)
        return
    if type(layer).__module__.startswith(("keras.", "keras_hub.")):
        # Shapes as they were; the layer is built anew by the call that follows.
        entry.pop("build_config", None)
    for path, child in graph.children(layer):
        place: Any = entry["config"]
        for step in path.split("."):
            place = place[int(step) if step.isdigit() else step]
        _edit_layer(place, child, settings, arguments)
    entry["config"].update(settings.get(id(layer), {}))


def _copy_weights(old: Any, new: Any, kept: tuple[Analysis, Kept] | None) -> None:
    for (_, layer), (_, twin) in zip(graph.leaves(old), graph.leaves(new), strict=True):
        for source, target in zip(layer.variables, twin.variables, strict=True):
            values = graph.values(source)
            if kept is not None:
                values = _remaining(source, values, *kept)
            target.assign(values)
        twin.trainable = layer.trainable


def _remaining(variable: Any, values: Any, analysis: Analysis, kept: Kept) -> Any:
    values = values[np.ix_(*analysis.kept_entries(variable, kept))]
    scale = analysis.walk.scales.get(id(variable))
    if scale is not None:
        factor = scale.factor(tuple(kept.count(axis) or 0 for axis in scale.axes))
        if factor != 1.0:
            values = (values * factor).astype(values.dtype)
    return values
