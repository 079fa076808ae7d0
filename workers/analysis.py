"""A model's analysis: what its layers could lose, and the graph that says why."""

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from app.domain.analysis import AnalysedLayer, ModelAnalysis
from app.domain.job import Order
from workers import engine
from workers.engine import graph
from workers.loading import load
from workers.report.analysis import page

NAMED = 64
"""Coupled layers listed per layer: in a chain of a thousand blocks each is coupled with all."""


def analysis(order: Order) -> tuple[ModelAnalysis, str]:
    """The analysis of the ordered model, and the page that shows it.

    Raises:
        InvalidModel, EngineRefusal: the model cannot be loaded, or has no graph to walk.
    """
    model = load(Path(order.model_path), order.model, Path(order.scratch))
    apart = engine.inlined(model)
    found = look(apart.model, order.spec.model, apart)
    return found, page(found)


def look(model: Any, id_: str, apart: engine.Inlined | None = None) -> ModelAnalysis:
    """Analyse a built Sequential or Functional model, known as `id_`.

    Args:
        model: the model.
        id_: goes into the analysis.
        apart: how the model came out of one of KerasHub's, for what that leaves to say.

    Raises:
        EngineRefusal: the model has no graph to walk.
    """
    started = time.perf_counter()
    stays = apart.stays if apart else {}
    listed = {layer.name: layer for layer in engine.analyse(model).layers}
    counts = engine.count(model)
    calls = dict(_calls(model, "", listed))
    layers = tuple(
        _layer(name, listed.get(name), calls.get(name), stays.get(name))
        for name in _in_order(list(listed), calls)
    )
    return ModelAnalysis(
        model=id_,
        engine=version("secateur"),
        parameters=counts.parameters,
        macs=counts.macs,
        seconds=round(time.perf_counter() - started, 3),
        layers=layers,
        edges=tuple(dict.fromkeys(_edges(model, "", listed))),
        notes=(*_notes(layers, counts.macs_exact), *(apart.notes if apart else ())),
    )


def _layer(
    name: str, found: engine.LayerAnalysis | None, call: Any, stays: str | None
) -> AnalysedLayer:
    """A layer as the engine sees it; an operation between layers has nothing to lose."""
    operation = call.operation if call is not None else None
    entry: dict[str, Any] = {
        "name": name,
        "class": found.class_name if found else type(operation).__name__,
        "output_shape": _shape(call),
        "heads": _heads(operation),
    }
    if found is not None:
        entry |= {
            "units": found.units,
            "prunable": found.prunable,
            "coupled_with": found.coupled_with[:NAMED],
            "parameters": found.parameters,
            "macs": found.macs,
            "frozen": stays or found.frozen,
        }
    return AnalysedLayer.model_validate(entry)


def _shape(call: Any) -> tuple[int | None, ...] | None:
    tensors = call.output_tensors if call is not None else ()
    return tuple(tensors[0].shape) if tensors else None


def _heads(operation: Any) -> int | None:
    """Attention heads by the settings of Keras' attention layers."""
    for setting in ("num_heads", "num_query_heads"):
        value = getattr(operation, setting, None)
        if isinstance(value, int):
            return value
    return None


# --- the graph ---------------------------------------------------------------------------------
def _calls(model: Any, prefix: str, listed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every operation's first call (a Keras node) by its path, in the model's order."""
    seen: set[str] = set()
    for node in graph.calls(model):
        path = prefix + node.operation.name
        if path in seen:
            continue
        seen.add(path)
        yield path, node
        if _is_opened(node.operation, path, listed):
            yield from _calls(node.operation, f"{path}/", listed)


def _edges(model: Any, prefix: str, listed: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The graph's edges by path. A nested model stands before its own input layers."""
    for node in graph.calls(model):
        path = prefix + node.operation.name
        for tensor in node.input_tensors:
            yield _source(tensor, prefix, listed), path
        if _is_opened(node.operation, path, listed):
            yield from _edges(node.operation, f"{path}/", listed)
            for tensor in node.operation.inputs:
                yield path, _source(tensor, f"{path}/", listed)


def _source(tensor: Any, prefix: str, listed: Mapping[str, Any]) -> str:
    """Path of the operation that makes a tensor; inside a nested model where that is listed."""
    history = tensor._keras_history
    path = prefix + str(history.operation.name)
    if not _is_opened(history.operation, path, listed):
        return path
    return _source(history.operation.outputs[history.tensor_index], f"{path}/", listed)


def _is_opened(operation: Any, path: str, listed: Mapping[str, Any]) -> bool:
    """Whether the engine lists the layers inside a nested model."""
    return isinstance(operation, keras.Model) and any(
        name.startswith(f"{path}/") for name in listed
    )


def _in_order(listed: Sequence[str], calls: Mapping[str, Any]) -> list[str]:
    """The engine's layers in its order, and other operations where they are first called."""
    found: dict[str, None] = {}
    rest = iter(listed)
    known = set(listed)
    for name in calls:
        if name not in known:
            found[name] = None
        elif name not in found:
            for layer in rest:
                found[layer] = None
                if layer == name:
                    break
    return list(found | dict.fromkeys(rest))


# --- notes -------------------------------------------------------------------------------------
def _notes(layers: Sequence[AnalysedLayer], exact: bool) -> Iterator[str]:
    if not any(layer.prunable for layer in layers):
        yield (
            "No unit can be removed from this model; `frozen` says why for each layer. "
            "Granularity weight, which sets weights to zero, still works."
        )
    if not exact:
        yield (
            "MACs are a lower bound: an axis of variable length was counted as one step, or the "
            "work of a layer is not known."
        )
    if any(len(layer.coupled_with) == NAMED for layer in layers):
        yield f"No more than {NAMED} coupled layers are named for each layer."
