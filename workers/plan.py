"""The dry run: what a spec would cut, foreseen by the same engine that cuts."""

from pathlib import Path
from typing import Any

from app.domain.job import Order
from app.domain.metrics import Plan, PlannedLayer, PlannedState
from workers import engine
from workers.loading import load


def plan(order: Order) -> Plan:
    """What the whole schedule would remove.

    With several steps the choice of each depends on training in between: the counts are those
    of the end, the chosen units and, with global scope, their spread over layers may differ.
    """
    model = load(Path(order.model_path), order.model, Path(order.scratch))
    analysis = engine.analyse(model)
    before = engine.count(model)
    cut = engine.choose(model, order.spec.prune, seed=order.spec.seed)
    after = engine.predict(model, cut)
    removed = {one.name: one for one in cut.summary}
    frozen = {layer.name: layer.frozen for layer in analysis.layers}
    later = {layer.name: layer for layer in after.layers}
    layers = []
    for layer in before.layers:
        one = removed.get(layer.name)
        reason = frozen.get(layer.name) if cut.is_structured else None
        layers.append(
            PlannedLayer.model_validate(
                {
                    "name": layer.name,
                    "class": layer.class_name,
                    "units": layer.units,
                    "removed": one.removed if one else 0,
                    "parameters_before": layer.parameters,
                    "parameters_after": later[layer.name].parameters,
                    "macs_before": layer.macs,
                    "macs_after": later[layer.name].macs,
                    "note": (one.note if one else None)
                    or (reason if not one or not one.removed else None),
                }
            )
        )
    width = _bytes_per_parameter(model)
    return Plan(
        granularity=order.spec.prune.granularity.kind,
        before=_state(before, width),
        after=_state(after, width),
        layers=tuple(layers),
        notes=_notes(order, cut),
    )


def _state(counts: Any, width: float) -> PlannedState:
    return PlannedState(
        parameters=counts.parameters,
        nonzero_parameters=counts.nonzero_parameters,
        macs=counts.macs,
        bytes=round(counts.parameters * width),
    )


def _bytes_per_parameter(model: Any) -> float:
    """Mean width of a stored parameter."""
    sizes = {
        "float64": 8,
        "int64": 8,
        "float16": 2,
        "bfloat16": 2,
        "int8": 1,
        "uint8": 1,
        "bool": 1,
    }
    total = count = 0
    for variable in model.weights:
        entries = 1
        for axis in variable.shape:
            entries *= axis
        total += entries * sizes.get(str(variable.dtype), 4)
        count += entries
    return total / count if count else 4.0


def _notes(order: Order, cut: engine.Cut) -> tuple[str, ...]:
    notes = []
    if not cut.is_structured:
        notes.append(
            "Zero weights keep their place in dense kernels: parameters, MACs and the file's raw "
            "size stay; only compressed size shrinks. Granularity channel makes models faster."
        )
        if order.spec.prune.shrink:
            notes.append(
                "Units that are dead at the end, because all weights that make or read them are "
                "zero, are removed: layers may become smaller than foreseen here. With "
                "prune.shrink false, all shapes stay."
            )
    if order.spec.schedule.kind != "one_shot":
        notes.append(
            "The schedule cuts in steps with training between them; these are the totals at its "
            "end, and which units go is decided anew at each step."
        )
    if order.spec.dataset is None:
        notes.append("Without a data set the job will measure size and speed, but no accuracy.")
    return tuple(notes)
