"""Masks that merge layers combine otherwise in Keras 3 than in Keras 2.

Add, Multiply and their like keep a time step in Keras 2 if all masks keep it, and look past
inputs without a mask; in Keras 3 if any mask keeps it, and drop the mask if one input has none.
The two agree where all inputs carry the same mask, or none does.
"""

from app.intake.config import Graph, Layer
from app.intake.legacy.notes import refuse

Masks = dict[tuple[str, int], frozenset[str]]

_MERGES = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_ENDS = frozenset(
    [
        "Flatten",
        "Reshape",
        "Dot",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "AveragePooling1D",
        "MaxPooling1D",
        "Permute",
        "RepeatVector",
    ]
)
_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN"})


def check_masks(graph: Graph) -> None:
    """Follow the masks through a graph.

    Raises:
        InvalidModel: a merge layer's inputs carry different masks.
    """
    for layer in graph.layers:
        if layer.inner is not None:
            check_masks(layer.inner)
    if graph.sequential:
        return
    masks: Masks = {}
    # The layers are listed in an order in which inputs come first, but for shared layers.
    for _ in range(2):
        for layer in graph.layers:
            for index, refs in enumerate(layer.calls):
                given = [masks.get((ref.layer, ref.node), frozenset()) for ref in refs]
                masks[(layer.name, index)] = _after(layer, index, given)


def _after(layer: Layer, index: int, given: list[frozenset[str]]) -> frozenset[str]:
    if layer.class_name in _MERGES and len(set(given)) > 1:
        raise refuse(
            layer.name,
            "it merges inputs with different masks (mask_zero, Masking), which Keras 3 combines "
            "otherwise than Keras 2",
        )
    if layer.class_name == "Masking" or layer.config.get("mask_zero"):
        return frozenset({f"{layer.name}:{index}"})
    if layer.class_name in _ENDS or _last_step_only(layer):
        return frozenset()
    return frozenset().union(*given[:1] if layer.class_name in _RECURRENT else given)


def _last_step_only(layer: Layer) -> bool:
    config = layer.config
    if layer.class_name == "Bidirectional":
        inner = config.get("layer")
        config = inner.get("config", {}) if isinstance(inner, dict) else {}
    elif layer.class_name not in _RECURRENT:
        return False
    return not config.get("return_sequences", False)
