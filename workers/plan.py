"""The dry run: what a spec would cut, foreseen by the same engine that cuts."""

from pathlib import Path
from typing import Any

import keras

from app.domain.criteria import Calibrated, VariationalDropoutCriterion
from app.domain.job import Order
from app.domain.metrics import Plan, PlannedLayer, PlannedState
from workers import engine
from workers.loading import completed, load
from workers.pace import Pace
from workers.report.target import planned_target
from workers.search.measures import as_trained
from workers.search.resolve import Bench, Resolved, resolve
from workers.training.control import dense_spec
from workers.training.data import Data, load_data
from workers.training.evidence import collect, drawn
from workers.training.unlabelled import settled
from workers.training.variational import evidence as noise_evidence

AT_MOST_SAMPLES = 256
"""That a dry run looks at: somebody waits for it."""

BY_SENSITIVITY = (
    "The job will look at what each layer bears and give each its own share; this dry run took the "
    "same share everywhere."
)


def plan(order: Order) -> Plan:
    """What the whole schedule would remove.

    With several steps the choice of each depends on training in between: the counts are those
    of the end, the chosen units and, with global scope, their spread over layers may differ.

    Raises:
        EngineRefusal: the model cannot be pruned as asked, or the criterion looks at data and the
            order has none.
    """
    if order.spec.control is not None:
        spec = dense_spec(order.spec, Pace(order.spec).epochs)
        order = order.model_copy(update={"spec": spec})
    by_sensitivity = order.spec.prune.scope == "sensitivity"
    if by_sensitivity:
        order = _alike(order)
    apart = engine.inlined(load(Path(order.model_path), order.model, Path(order.scratch)))
    model = apart.model
    analysis = engine.analyse(model)
    before = engine.count(model)
    evidence = _evidence(model, order)
    resolved = _resolved(model, order, evidence)
    cut = _cut(model, order, resolved, evidence)
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
                    "parameters_after": later[layer.name].parameters if layer.name in later else 0,
                    "macs_before": layer.macs,
                    "macs_after": later[layer.name].macs if layer.name in later else 0,
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
        target=None if resolved is None else planned_target(order.spec.prune, resolved),
        notes=(
            *_notes(order, cut),
            *([BY_SENSITIVITY] if by_sensitivity else []),
            *apart.notes,
            *_search_notes(resolved),
        ),
    )


def _alike(order: Order) -> Order:
    """With the same share in every layer, where the job will find each layer's own."""
    prune = order.spec.prune.model_copy(update={"scope": "layer"})
    return order.model_copy(update={"spec": order.spec.model_copy(update={"prune": prune})})


def _resolved(model: Any, order: Order, evidence: engine.Evidence | None) -> Resolved | None:
    spec = order.spec

    def prepare(candidate: Any) -> None:
        # Jobs with data hand out compiled models. Which loss it is makes a difference of bytes.
        if spec.dataset is not None:
            candidate.compile(keras.optimizers.SGD(name="SGD"), "mean_squared_error")
        if spec.fine_tune is not None:
            as_trained(candidate, spec.seed)

    bench = Bench(Path(order.scratch) / "search", spec.seed, prepare, repeats=0, quick=True)
    return resolve(
        model,
        spec.prune,
        lambda prune: engine.choose(model, prune, seed=spec.seed, evidence=evidence),
        bench,
    )


def _cut(
    model: Any, order: Order, resolved: Resolved | None, evidence: engine.Evidence | None
) -> engine.Cut:
    prune = order.spec.prune if resolved is None else resolved.prune
    if prune is None:
        return engine.UnitCut({}, (), engine.begin(model))
    return engine.choose(model, prune, seed=order.spec.seed, evidence=evidence)


def _search_notes(resolved: Resolved | None) -> tuple[str, ...]:
    if resolved is None:
        return ()
    how = "measured" if resolved.measured else "estimated"
    measured = f"{len(resolved.trials)} measurements" if resolved.trials else "no measurement"
    notes = [f"The target's cut was {how} from {measured}; the job searches for itself."]
    if resolved.note:
        notes.append(f"Search for the target: {resolved.note}.")
    return tuple(notes)


def _evidence(model: Any, order: Order) -> engine.Evidence | None:
    """A glance at the data, where the criterion looks at data and there is some."""
    spec = order.spec
    if isinstance(spec.prune.criterion, VariationalDropoutCriterion):
        return noise_evidence(model, {})
    if not spec.prune.needs_data or order.dataset is None or order.dataset_path is None:
        return None
    data = load_data(
        *(Path(order.dataset_path), order.dataset, completed(model, order.model), spec.seed),
        judging=spec.prune.judges,
    )
    if order.dataset.unlabelled:
        # Each sample has to be asked for its answer; a glance is enough.
        data = Data(
            train=drawn(data.train, AT_MOST_SAMPLES, spec.seed),
            validation=drawn(data.validation, AT_MOST_SAMPLES, spec.seed),
            test=drawn(data.test, AT_MOST_SAMPLES, spec.seed),
            notes=data.notes,
        )
    data, objective = settled(data, order.dataset, model, order.model.training, spec)
    return collect(model, data, objective, spec.prune.criterion, spec.seed, AT_MOST_SAMPLES)


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
    criterion = order.spec.prune.criterion
    if isinstance(criterion, Calibrated) and criterion.samples > AT_MOST_SAMPLES:
        notes.append(
            f"The dry run looked at up to {AT_MOST_SAMPLES} samples and the job will look at up to "
            f"{criterion.samples}: it may choose others among units or weights that matter alike."
        )
    if isinstance(criterion, VariationalDropoutCriterion):
        notes.append(
            "The job will learn in training which weights can go; this dry run took the smallest."
        )
    if order.spec.dataset is None:
        notes.append("Without a data set the job will measure size and speed, but no accuracy.")
    return tuple(notes)
