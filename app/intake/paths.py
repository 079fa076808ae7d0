"""Names of the layers inside layers: `encoder/dense`, `attention/query`, `rnn/lstm_cell`."""

from collections.abc import Iterator

from app.intake.config import LAYER_LIMIT, Graph, Layer
from app.intake.known import SCOPE_NAME
from app.intake.variables import Variable, Variables, stored_name

PATH_LIMIT = 200
"""Longer paths are left out: no pattern of a spec could name them."""
_TOP = 3
"""Parts of the HDF5 path of a layer's own group: `/layers/dense`, `/model_weights/dense`."""


def inner_layers(graph: Graph, variables: Variables, *, hdf5_file: bool) -> tuple[str, ...]:
    """Paths of all layers inside others, as configs and stored names tell them.

    Args:
        graph: the model.
        variables: by layer name.
        hdf5_file: the variables are named by their paths (`.h5`) and not by their groups.
    """
    found: dict[str, None] = {}
    names: dict[str, str | None] = {}
    for layer in graph.layers:
        found.update(dict.fromkeys(_nested(layer, layer.name)))
        for variable in variables[layer.name]:
            parts = _by_path(variable) if hdf5_file else _by_groups(variable, names)
            if parts[:1] == [layer.name]:
                parts = parts[1:]
            for end in range(1, len(parts) + 1):
                found["/".join([layer.name, *parts[:end]])] = None
        if len(found) > LAYER_LIMIT:
            break
    return tuple(path for path in found if len(path) <= PATH_LIMIT and SCOPE_NAME.fullmatch(path))


def _nested(layer: Layer, path: str) -> Iterator[str]:
    if layer.inner is None or len(path) > PATH_LIMIT:
        return
    for inner in layer.inner.layers:
        yield f"{path}/{inner.name}"
        yield from _nested(inner, f"{path}/{inner.name}")


def _by_path(variable: Variable) -> list[str]:
    """`query` of `/model_weights/attention/attention/query/kernel:0`."""
    return variable.path.split("/")[_TOP:-1]


def _by_groups(variable: Variable, names: dict[str, str | None]) -> list[str]:
    """`query` of `/layers/attention/query_dense/vars/0`, whose group notes the name `query`."""
    steps = variable.path.split("/")
    found = []
    for end in range(_TOP + 1, len(steps) - 1):
        path = "/".join(steps[:end])
        if path not in names:
            names[path] = stored_name(variable.dataset.file[path])
        found.append(names[path])
    return [name for name in found if name is not None]
