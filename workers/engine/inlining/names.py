"""Names for layers that come out of others: the same in every process."""

import re
from collections.abc import Iterator
from typing import Any

import keras


def part(layer: Any, holder: Any) -> str:
    """What a layer or operation is called within the layer that holds it.

    Its own name, if somebody gave it one; else the attribute that holds it. Names that Keras gives
    carry a counter of the process, and are not used.
    """
    for place, value in _held(holder):
        if value is layer:
            return _own(layer) or place
    for place, value in _held(holder):
        if any(each is layer for each in value._flatten_layers()):
            return joined(_own(value) or place, part(layer, value))
    return _own(layer) or snake(type(layer).__name__)


def _own(layer: Any) -> str | None:
    kind = snake(type(layer).__name__)
    if re.fullmatch(rf"{re.escape(kind)}(_\d+)?", layer.name):
        return None
    return str(layer.name).replace("/", "_")


def _held(holder: Any) -> Iterator[tuple[str, Any]]:
    """The layers that are attributes of a layer, or in lists among them."""
    for name, value in vars(holder).items():
        if name == "_layers":
            continue
        several = isinstance(value, list | tuple)
        for number, each in enumerate(value if several else [value]):
            if isinstance(each, keras.layers.Layer):
                yield f"{name.strip('_')}_{number}" if several else name.strip("_"), each


def snake(name: str) -> str:
    """`LayerNormalization` as `layer_normalization`, as Keras does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def joined(path: str, name: str) -> str:
    """A name behind the one of the layer that holds it, unless it begins with that already."""
    outer = path.rstrip("_")
    return name if name.startswith(f"{outer}_") else f"{outer}_{name}"


class Names:
    """Names that are taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """The name, with a number behind it where it is taken."""
        found, number = name, 0
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found
