"""Which stored variables belong to which layer, in both file layouts."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from app.domain.errors import InvalidModel
from app.intake import hdf5
from app.intake.compile_config import snake_case
from app.intake.config import Graph, Layer
from app.intake.known import PYTHON_NAMES

LEGACY_ROOT = "_layer_checkpoint_dependencies"
"""Where some releases of Keras 2 kept the layers' weights in a `.keras` archive."""
_RANDOM_STATE = ("seed_generator", "random_generator", "_random_generator")


@dataclass(frozen=True)
class Variable:
    """One stored variable of a layer."""

    path: str
    """Path of the dataset within the HDF5 file."""
    dataset: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(int(n) for n in self.dataset.shape)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """`kernel` of `dense/kernel:0`."""
        return self.path.rsplit("/", 1)[-1].split(":")[0]


Variables = dict[str, tuple[Variable, ...]]


def archive_variables(graph: Graph, file: Any, *, legacy: bool = False) -> Variables:
    """Variables by layer name from a `.keras` archive's model.weights.h5.

    Keras names the groups by class and count, not by the layers' names.
    """
    groups = layer_groups(graph, layers_group(file), legacy=legacy)
    return {layer.name: tuple(group_variables(groups.get(layer.name))) for layer in graph.layers}


def layers_group(parent: Any) -> Any:
    """The group below which a model's layers are kept; `None` where none has variables."""
    for name in (LEGACY_ROOT, "layers"):
        if name in parent and isinstance(parent[name], h5py.Group):
            return parent[name]
    return None


def counted_names(graph: Graph) -> dict[str, tuple[str, int]]:
    """Of each layer its class in snake case, and how many of that class come before it."""
    used: dict[str, int] = {}
    found: dict[str, tuple[str, int]] = {}
    for layer in graph.layers:
        # A Sequential does not count its InputLayer among its layers, a graph not its functions.
        if layer.is_operation or (graph.sequential and layer.class_name == "InputLayer"):
            continue
        # Keras names a layer's group by its class in Python.
        key = snake_case(PYTHON_NAMES.get(layer.class_name, layer.class_name))
        found[layer.name] = (key, used.get(key, 0))
        used[key] = used.get(key, 0) + 1
    return found


def group_name(key: str, count: int) -> str:
    """`dense`, `dense_1`, `dense_2`, ..."""
    return f"{key}_{count}" if count else key


def layer_groups(graph: Graph, root: Any, *, legacy: bool = False) -> dict[str, Any]:
    """The group of each layer of a graph below a `layers` group, where it has one."""
    if root is None:
        return {}
    stored = _stored_groups(root) if legacy else None
    found: dict[str, Any] = {}
    for name, (key, count) in counted_names(graph).items():
        if stored is None:
            group = root.get(group_name(key, count))
        else:
            groups = stored.get(key, [])
            group = groups[count] if count < len(groups) else None
        if isinstance(group, h5py.Group):
            found[name] = group
    return found


def _stored_groups(root: Any) -> dict[str, list[Any]]:
    # Some releases of Keras 2 left gaps in the count (dense, dense_2, ...): only the order holds.
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for name in root:
        match = re.fullmatch(r"(.+?)(?:_(\d+))?", name)
        key, count = (match[1], int(match[2] or 0)) if match else (name, 0)
        numbered.setdefault(key, []).append((count, root[name]))
    return {
        key: [group for _, group in sorted(items, key=lambda item: item[0])]
        for key, items in numbered.items()
    }


def group_variables(group: Any) -> Iterator[Variable]:
    """All variables below a layer's group, but for random state, which Keras does not count."""
    if group is None:
        return
    own = list(_own_variables(group))
    yield from own[1:] if _repeats_kernel(group, own) else own
    for name in _parts(group):
        yield from group_variables(group[name])


def _own_variables(group: Any) -> Iterator[Variable]:
    if "vars" in group and isinstance(group["vars"], h5py.Group):
        numbered = [name for name in group["vars"] if name.isdigit()]
        for name in sorted(numbered, key=int):
            yield Variable(f"{group.name}/vars/{name}", group["vars"][name])


def _parts(group: Any) -> Iterator[str]:
    for name in group:
        if name != "vars" and name not in _RANDOM_STATE and isinstance(group[name], h5py.Group):
            yield name


def _repeats_kernel(group: Any, own: list[Variable]) -> bool:
    """Whether this is a SpectralNormalization, which stores its layer's kernel a second time.

    Beside it there is the vector u of power iteration, of shape (1, last axis of the kernel).
    """
    wrapped = group.get("layer")
    if len(own) != 2 or not isinstance(wrapped, h5py.Group):
        return False
    kernel = next(_own_variables(wrapped), None)
    if kernel is None or own[0].shape != kernel.shape or not kernel.shape:
        return False
    return own[1].shape == (1, kernel.shape[-1])


def stored_name(group: Any) -> str | None:
    """What the layer of a group is called, where Keras noted it down."""
    own = group.get("vars")
    name = hdf5.text_attribute(own, "name") if isinstance(own, h5py.Group) else None
    return name or None


def legacy_variables(graph: Graph, file: Any) -> Variables:
    """Variables by layer name from an `.h5` file, in the order of its `weight_names`.

    Keras 2 allowed slashes in the names of layers; they are underscores here.

    Raises:
        InvalidModel: the lists of names do not match what is stored.
    """
    root = weights_root(file)
    names = hdf5.names_attribute(root, "layer_names")
    stored = {name.replace("/", "_"): group_weights(root, name) for name in names}
    known = {layer.name for layer in graph.layers}
    for name, variables in stored.items():
        if variables and name not in known:
            raise InvalidModel(f"The file holds weights of {name!r}, a layer its config lacks.")
    if group_weights(root, "top_level_model_weights"):
        raise InvalidModel(
            "The model has weights of its own, outside its layers; only Sequential and "
            "Functional models made of layers can be pruned."
        )
    return {layer.name: stored.get(layer.name, ()) for layer in graph.layers}


def weights_root(file: Any) -> Any:
    """The group that lists `layer_names`.

    Raises:
        InvalidModel: there is none.
    """
    root = file.get("model_weights", file)
    if not isinstance(root, h5py.Group):
        raise InvalidModel("model_weights in the HDF5 file is not a group; the file is damaged.")
    return root


def group_weights(root: Any, name: str) -> tuple[Variable, ...]:
    """The datasets that one layer's group lists."""
    group = root.get(name)
    if group is None:
        return ()
    found = []
    for weight in hdf5.names_attribute(group, "weight_names"):
        dataset = group.get(weight)
        if not isinstance(dataset, h5py.Dataset):
            raise InvalidModel(f"The HDF5 file lists {name}/{weight} but does not hold it.")
        found.append(Variable(f"{group.name}/{weight}", dataset))
    return tuple(found)


def check_values(layer: Layer, variables: tuple[Variable, ...]) -> None:
    """Every stored number of a layer.

    Raises:
        InvalidModel: a variable holds NaN or infinity, no numbers at all, or quantised ones.
    """
    for variable in variables:
        kind = variable.dataset.dtype.kind
        if kind not in "fiubV":
            raise InvalidModel(
                f"Layer {layer.name!r}: variable {variable.path} does not hold numbers."
            )
        if variable.dataset.dtype.kind in "iu" and variable.dataset.dtype.itemsize == 1:
            # Attention does not say so in its config.
            raise InvalidModel(
                f"Layer {layer.name!r} is already quantised: variable {variable.path} holds whole "
                "numbers of 8 bits. Prune before quantising: upload the model as it was before."
            )
        if not hdf5.is_finite(variable.dataset):
            raise InvalidModel(
                f"Layer {layer.name!r}: variable {variable.path} holds NaN or infinity, so the "
                "model cannot compute anything useful. Upload a checkpoint from before training "
                "diverged."
            )
