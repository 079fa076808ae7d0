"""Weights of legacy files: scaled where an activation changed, and laid out as in Keras 3."""

from typing import Any

import numpy as np

from app.intake import hdf5
from app.intake.compile_config import snake_case
from app.intake.config import MODEL_CLASSES, Graph, Layer, parse_graph
from app.intake.legacy.layers import safe_name
from app.intake.legacy.notes import Scaling, Step, refuse
from app.intake.variables import (
    Variable,
    counted_names,
    group_name,
    group_variables,
    group_weights,
    layer_groups,
    layers_group,
    weights_root,
)

_PRIVATE = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
"""MultiHeadAttention kept its projections under private names in Keras 2."""


def scale_hdf5(file: Any, scaling: Scaling) -> None:
    """Apply one scaling to an `.h5` file that is open for writing.

    Raises:
        InvalidModel: the variables cannot be told apart by their names.
    """
    owner = scaling.path[0][1]
    root = weights_root(file)
    stored = {safe_name(name): name for name in hdf5.names_attribute(root, "layer_names")}
    variables = list(group_weights(root, stored.get(owner, owner)))
    for step in scaling.path[1:]:
        variables = _narrow(variables, step)
    _scale(
        owner,
        scaling,
        {variable.name: variable for variable in variables},
        len(variables),
    )


def _narrow(variables: list[Variable], step: Step) -> list[Variable]:
    kind, name = step
    if kind == "child":
        return [v for v in variables if name in v.path.split("/")]
    if kind in ("forward_layer", "backward_layer"):
        # Keras 2 lists the forward layer's variables first, then as many of the backward layer.
        half = len(variables) // 2
        return variables[:half] if kind == "forward_layer" else variables[half:]
    if kind == "cells":
        return _cells(variables)[int(name)]
    return variables


def _cells(variables: list[Variable]) -> list[list[Variable]]:
    cells: list[list[Variable]] = []
    for variable in variables:
        if variable.name == "kernel":
            cells.append([])
        cells[-1].append(variable)
    return cells


def scale_archive(graph: Graph, file: Any, scaling: Scaling) -> None:
    """Apply one scaling to weights that `lay_out` wrote and that are open for writing.

    Raises:
        InvalidModel: the variables are not where they should be.
    """
    group, inner = file, graph
    for kind, name in scaling.path:
        if kind == "child":
            found = layer_groups(inner, layers_group(group))
            layer = next(layer for layer in inner.layers if layer.name == name)
            group, inner = found[name], layer.inner or inner
        elif kind == "cells":
            group = _listed_cell(group["cells"], int(name), layer)
        else:
            group = group[kind]
            inner = wrapped_graph(layer) or inner
    own = group["cell"] if "cell" in group and not _has_variables(group) else group
    stored = [variable for variable in group_variables(own) if variable.path.count("/vars/") == 1]
    named = dict(zip(scaling.order, stored, strict=False))
    _scale(scaling.path[0][1], scaling, named, len(stored))


def wrapped_graph(layer: Layer) -> Graph | None:
    """The graph of a model inside a wrapper."""
    inner = layer.config.get("layer")
    if isinstance(inner, dict) and inner.get("class_name") in MODEL_CLASSES:
        return parse_graph(inner)
    return None


def _listed_cell(cells: Any, index: int, layer: Layer) -> Any:
    names = [cell["class_name"] for cell in layer.config["cell"]["config"]["cells"]]
    before = names[:index].count(names[index])
    return cells[group_name(snake_case(names[index]), before)]


def _has_variables(group: Any) -> bool:
    return "vars" in group and len(group["vars"]) > 0


def _scale(owner: str, scaling: Scaling, named: dict[str, Variable], count: int) -> None:
    allowed = (len(scaling.order), len(scaling.order) - 1)
    if len(named) != count or count not in allowed or scaling.roles[0] not in named:
        raise refuse(owner, "its variables cannot be told apart by their names in the file")
    for role in scaling.roles:
        if role in named:
            _multiply(owner, named[role], scaling)


def _multiply(owner: str, variable: Variable, scaling: Scaling) -> None:
    values = np.asarray(variable.dataset[()])
    size = values.shape[-1]
    if size % scaling.gates:
        raise refuse(owner, f"its variable {variable.path} does not hold {scaling.gates} gates")
    block = size // scaling.gates
    factors = np.ones(size, np.float64)
    for gate in scaling.scaled:
        factors[gate * block : (gate + 1) * block] = scaling.factor
    variable.dataset[...] = (values * factors).astype(values.dtype)


def lay_out(graph: Graph, source: Any, target: Any) -> None:
    """Copy a legacy archive's weights to where Keras 3.15 looks for them.

    Args:
        graph: the translated model.
        source: a group that holds the layers' group in Keras 2's layout.
        target: an empty group.
    """
    root = layers_group(source)
    if root is None:
        return
    groups = layer_groups(graph, root, legacy=True)
    new = target.create_group("layers")
    for layer in graph.layers:
        if layer.name not in groups:
            continue
        old = groups[layer.name]
        made = new.create_group(group_name(*counted_names(graph)[layer.name]))
        if layer.inner is not None:
            lay_out(layer.inner, old, made)
            continue
        for name in old:
            inner = wrapped_graph(layer) if name == "layer" else None
            if inner is not None:
                lay_out(inner, old[name], made.create_group(name))
            else:
                copy_group(old, name, made)


def copy_group(source: Any, name: str, target: Any) -> None:
    """Copy one group, without its links to anything else."""
    new_name = name.removeprefix("_") if name in _PRIVATE else name
    source.copy(source[name], target, new_name)
