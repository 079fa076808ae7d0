"""Names for layers that come out of others: the same in every process."""

import re
from typing import Any


def part(layer: Any, holder: Any) -> str:
    """What a layer or operation is called within the layer that holds it.

    Its own name, if somebody gave it one; else the attribute that holds it. Names that Keras gives
    carry a counter of the process, and are not used.
    """
    kind = snake(type(layer).__name__)
    if not re.fullmatch(rf"{re.escape(kind)}(_\d+)?", layer.name):
        return str(layer.name).replace("/", "_")
    for name, value in vars(holder).items() if holder is not None else ():
        if value is layer:
            return name.strip("_")
        if isinstance(value, list | tuple):
            for number, each in enumerate(value):
                if each is layer:
                    return f"{name.strip('_')}_{number}"
    return kind


def snake(name: str) -> str:
    """`LayerNormalization` as `layer_normalization`, as Keras does."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


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
