"""Types of outputs, told from configs."""

from app.intake.config import Layer, dtype_name

_INDEXES = {
    "Discretization": "int32",
    "IntegerLookup": "int64",
    "StringLookup": "int64",
    "TextVectorization": "int64",
}
"""Layers that answer with whole numbers unless `output_mode` says otherwise."""
_OPERATIONS = {
    **dict.fromkeys(["Argmax", "Argmin", "Argsort", "CountNonzero"], "int32"),
    **dict.fromkeys(["Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"], "bool"),
    **dict.fromkeys(["LogicalAnd", "LogicalOr", "LogicalNot", "LogicalXor", "All", "Any"], "bool"),
    **dict.fromkeys(["Isnan", "Isinf", "Isfinite", "Isclose", "InTopK"], "bool"),
}
_UNTOLD = frozenset(
    {"Cast", "View", "TopK", "Shape", "FFT", "RFFT", "STFT", "Divide", "TrueDivide"}
)
"""Functions that change the type, or have outputs of several types."""


def output_dtype(layer: Layer) -> str | None:
    """The type of what a layer or function answers with; `None` where it is not told."""
    if layer.inner is not None:
        return _inner_dtype(layer)
    if layer.is_operation:
        return _operation_dtype(layer)
    if layer.class_name in _INDEXES and layer.config.get("output_mode", "int") == "int":
        return _INDEXES[layer.class_name]
    return (dtype_name(layer.config) or "float32").removeprefix("mixed_")


def _inner_dtype(layer: Layer) -> str | None:
    """Of a nested model that of its outputs, where they agree."""
    graph = layer.inner
    assert graph is not None
    by_name = {one.name: one for one in graph.layers}
    last = graph.layers[-1:] if graph.sequential else ()
    # Each once: else models nested in one another would take a time that doubles per level.
    ends = last or [by_name[name] for name in {ref.layer for ref in graph.outputs}]
    found = {output_dtype(one) for one in ends}
    return found.pop() if len(found) == 1 else None


def _operation_dtype(layer: Layer) -> str | None:
    if layer.class_name in _OPERATIONS:
        return _OPERATIONS[layer.class_name]
    given = {ref.dtype for call in layer.calls for ref in call}
    floats = {dtype for dtype in given if dtype is not None and "float" in dtype}
    if layer.class_name in _UNTOLD:
        return floats.pop() if len(floats) == 1 and layer.class_name.endswith("Divide") else None
    return given.pop() if len(given) == 1 else None
