"""Names of a model's inputs and outputs: those of the layers that make them."""

from typing import Any


def input_names(model: Any) -> list[str]:
    """In the model's order."""
    return [str(tensor._keras_history.operation.name) for tensor in model.inputs]


def output_names(model: Any) -> list[str]:
    """In the model's order."""
    return [str(tensor._keras_history.operation.name) for tensor in model.outputs]
