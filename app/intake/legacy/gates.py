"""`hard_sigmoid` is another function in Keras 3: clip(x/6 + 0.5) instead of clip(0.2x + 0.5).

With f2 and f3 for the two, f2(x) = f3(1.2 x). Where x is linear in weights, scaling those
weights by 1.2 makes Keras 3 compute what Keras 2 computed.
"""

from collections.abc import Mapping
from types import MappingProxyType

from app.intake.config import Config
from app.intake.legacy.notes import Notes, Scaling, Step, refuse

NAME = "hard_sigmoid"
FACTOR = 1.2
_WHY = "hard_sigmoid is clip(0.2x + 0.5) in Keras 2 and clip(x/6 + 0.5) in Keras 3"

_ALL = (0,)
_PLAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            [
                "Dense",
                "EinsumDense",
                "Conv1D",
                "Conv2D",
                "Conv3D",
                "Conv1DTranspose",
                "Conv2DTranspose",
                "Conv3DTranspose",
            ],
            ("kernel", "bias"),
        ),
        **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("depthwise_kernel", "bias")),
        **dict.fromkeys(
            ("SeparableConv1D", "SeparableConv2D"), ("depthwise_kernel", "pointwise_kernel", "bias")
        ),
    }
)
_RECURRENT_ROLES = ("kernel", "recurrent_kernel", "bias")
_LONG = frozenset({"LSTM", "LSTMCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"})
_GATED = frozenset({"GRU", "GRUCell"})
_SIMPLE = frozenset({"SimpleRNN", "SimpleRNNCell"})


def uses_hard_sigmoid(config: Config) -> bool:
    """Whether any activation of a layer's config is hard_sigmoid."""
    return NAME in (config.get("activation"), config.get("recurrent_activation"))


def scaling(class_name: str, config: Config, path: tuple[Step, ...]) -> Scaling | None:
    """What to scale in one layer or cell; `None` where it has no weights that could be.

    Raises:
        InvalidModel: hard_sigmoid is applied to something that no weight feeds.
    """
    if class_name in _PLAIN:
        order = _PLAIN[class_name]
        # Of a separable convolution, scaling the last of its two kernels is enough.
        return Scaling(path, order, order[-2:], 1, _ALL, FACTOR)
    if class_name in _LONG:
        if config.get("activation") == NAME:
            raise refuse(
                str(config.get("name")),
                "its activation is hard_sigmoid, which an LSTM applies to its cell state too; "
                "no scaling of weights makes up for the other slope in Keras 3",
            )
        return Scaling(path, _RECURRENT_ROLES, _RECURRENT_ROLES, 4, (0, 1, 3), FACTOR)
    if class_name in _GATED:
        gates: tuple[int, ...] = (0, 1) if config.get("recurrent_activation") == NAME else ()
        gates += (2,) if config.get("activation") == NAME else ()
        return Scaling(path, _RECURRENT_ROLES, _RECURRENT_ROLES, 3, gates, FACTOR)
    if class_name in _SIMPLE:
        return Scaling(path, _RECURRENT_ROLES, _RECURRENT_ROLES, 1, _ALL, FACTOR)
    return None


def note_scaling(class_name: str, config: Config, path: tuple[Step, ...], notes: Notes) -> None:
    """Note the scaling that a layer or cell with hard_sigmoid needs.

    Raises:
        InvalidModel: it cannot be mended by scaling.
    """
    if not uses_hard_sigmoid(config):
        return
    name = str(config.get("name"))
    found = scaling(class_name, config, path)
    if found is None:
        raise refuse(name, f"a {class_name} with hard_sigmoid has no weights to scale. {_WHY}")
    notes.scalings.append(found)
    which = "weights and biases" if found.gates == 1 else "weights and biases of the gates"
    notes.mend(name, f"{which} before hard_sigmoid multiplied by {FACTOR}", _WHY)


def rescaling(name: str) -> Config:
    """A layer to put before a bare Activation("hard_sigmoid")."""
    return {
        "module": "keras.layers",
        "class_name": "Rescaling",
        "config": {"name": name, "trainable": True, "scale": FACTOR, "offset": 0.0},
        "registered_name": None,
    }


def note_rescaling(name: str, notes: Notes) -> None:
    """Note that such a layer was put in."""
    notes.mend(name, f"a Rescaling layer (times {FACTOR}) put before it", _WHY)
