"""Which activations treat every channel by itself."""

from collections.abc import Callable
from typing import Any

import keras

from workers.engine.channels import Call
from workers.engine.ids import Axis

act = keras.activations

ELEMENTWISE: frozenset[Callable[..., Any]] = frozenset(
    {
        act.celu,
        act.elu,
        act.exponential,
        act.gelu,
        act.hard_shrink,
        act.hard_sigmoid,
        act.hard_silu,
        act.hard_swish,
        act.hard_tanh,
        act.leaky_relu,
        act.linear,
        act.log_sigmoid,
        act.mish,
        act.relu,
        act.relu6,
        act.selu,
        act.sigmoid,
        act.silu,
        act.soft_shrink,
        act.softplus,
        act.softsign,
        act.sparse_plus,
        act.sparse_sigmoid,
        act.squareplus,
        act.swish,
        act.tanh,
        act.tanh_shrink,
        act.threshold,
    }
)
"""Everything else (softmax, log_softmax, glu, sparsemax, unknown functions) mixes channels."""

ELEMENTWISE_LAYERS: frozenset[type] = frozenset(
    {keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU}
)


def is_elementwise(activation: Any) -> bool:
    """Whether an activation setting treats every channel by itself."""
    if isinstance(activation, keras.layers.Layer):
        return type(activation) in ELEMENTWISE_LAYERS
    return activation is None or activation in ELEMENTWISE


def activated(call: Call, axis: Axis, layer: Any = None) -> Axis:
    """`axis` after the layer's own activation: frozen where that mixes channels."""
    activation = getattr(call.layer if layer is None else layer, "activation", None)
    if not is_elementwise(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        call.freeze(axis, f"ends in {name}, which mixes its channels")
    return axis
