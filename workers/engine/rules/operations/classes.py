"""The classes of `keras.ops` operations, by name.

Keras publishes the functions only: what a graph holds are instances of classes that have no public
name. They are collected here and nowhere else; what a version of Keras lacks is left out.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import keras

from workers.engine.channels import Rule

MODULES = ("core", "einops", "image", "linalg", "math", "nn", "numpy")


def _classes() -> Iterator[tuple[str, type]]:
    for name in MODULES:
        try:
            module = importlib.import_module(f"keras.src.ops.{name}")
        except ImportError:
            continue
        for found in vars(module).values():
            if (
                inspect.isclass(found)
                and issubclass(found, keras.Operation)
                and found.__module__ == module.__name__
            ):
                yield found.__name__, found


CLASSES: Mapping[str, type] = MappingProxyType(dict(_classes()))


def each(rule: Rule, *names: str) -> dict[type, Rule]:
    """One rule for several classes, those that this Keras has."""
    return {CLASSES[name]: rule for name in names if name in CLASSES}
