"""The allow-list, held against the installed Keras."""

import importlib
import inspect
import pkgutil
from typing import Any

import keras
import pytest
from keras.src.ops.operation import Operation
from keras.src.saving.serialization_lib import serialize_keras_object

from app.intake.allowed import is_allowed
from app.intake.allowed_names import (
    CALLING,
    CONSTRAINTS,
    INITIALIZERS,
    OPERATIONS,
    POLICIES,
    REGULARIZERS,
)


def classes(module: Any, base: type) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }


@pytest.mark.parametrize(
    ("module", "base", "names"),
    [
        (keras.initializers, keras.initializers.Initializer, INITIALIZERS),
        (keras.regularizers, keras.regularizers.Regularizer, REGULARIZERS),
        (keras.constraints, keras.constraints.Constraint, CONSTRAINTS),
    ],
    ids=["initializers", "regularizers", "constraints"],
)
def test_names_are_those_of_keras(module: Any, base: type, names: frozenset[str]) -> None:
    assert classes(module, base) == names


def test_policies_are_those_of_keras() -> None:
    assert classes(keras.dtype_policies, keras.dtype_policies.DTypePolicy) | {"DTypePolicy"} == (
        POLICIES
    )


def test_operations_are_those_of_keras_that_call_nothing() -> None:
    found = {}
    for item in pkgutil.iter_modules(importlib.import_module("keras.src.ops").__path__):
        if item.name.endswith("_test"):
            continue
        module = importlib.import_module(f"keras.src.ops.{item.name}")
        own = {
            name
            for name in classes(module, Operation)
            if vars(module)[name].__module__ == module.__name__
        }
        if own - CALLING:
            found[module.__name__] = own - CALLING
    assert found == dict(OPERATIONS)


@pytest.mark.parametrize(
    "value",
    [
        keras.initializers.HeNormal(),
        keras.regularizers.L2(0.1),
        keras.constraints.MaxNorm(),
        keras.dtype_policies.DTypePolicy("mixed_float16"),
        keras.activations.relu,
        keras.layers.LeakyReLU(),
        keras.layers.GroupQueryAttention(8, 2, 1),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_keras_writes_is_allowed(value: Any) -> None:
    written = serialize_keras_object(value)
    assert isinstance(written, str) or is_allowed(written)


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "keras.saving", "class_name": "KerasFileEditor"},
        {"module": "keras.utils", "class_name": "get_file"},
        {"module": "keras.config", "class_name": "set_floatx"},
        {"module": "keras.config", "class_name": "function", "config": "relu"},
        {"module": "keras.layers", "class_name": "TFSMLayer"},
        {"module": "keras.layers", "class_name": "deserialize"},
        {"module": "keras.src.ops.core", "class_name": "Map"},
        {"module": "keras.initializers", "class_name": "Dense"},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": "mine>Dense"},
        {"module": ["keras.layers"], "class_name": "Dense"},
        {"class_name": "deserialize"},
        {"class_name": ["Dense"]},
    ],
    ids=str,
)
def test_what_computes_no_part_of_a_model_is_not(entry: dict[str, Any]) -> None:
    assert not is_allowed(entry)
