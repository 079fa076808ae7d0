"""Which variables a layer must have, for the layers that make up most models."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from app.domain.errors import InvalidModel
from app.intake.config import Config, Layer, Shape
from app.intake.variables import Variable

_Sizes = list[tuple[int, ...]]


def check_shapes(layer: Layer, inputs: list[Shape | None], found: tuple[Variable, ...]) -> None:
    """Compare the stored variables of a layer with what its config calls for.

    Raises:
        InvalidModel: they do not fit; names the layer, what is needed and what is there.
    """
    rule = _RULES.get(layer.class_name)
    if rule is None or not inputs or inputs[0] is None:
        return
    try:
        needed = rule(layer.config, inputs[0])
    except (KeyError, TypeError, ValueError, IndexError):
        return
    stored = [variable.shape for variable in found]
    if stored != needed:
        raise InvalidModel(
            f"Layer {layer.name!r} ({layer.class_name}) needs variables of shapes "
            f"{_words(needed)} by its config, but the file holds {_words(stored)}. "
            "The file is damaged, or its config and weights come from different models."
        )


def _words(shapes: _Sizes) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) or "none"


def _bias(config: Config, size: int) -> _Sizes:
    return [(size,)] if config.get("use_bias", True) else []


def _known(size: int | None) -> int:
    if size is None:
        raise ValueError("the size is not known")
    return size


def _channels(config: Config, shape: Shape) -> int:
    return _known(shape[1 if config.get("data_format") == "channels_first" else -1])


def _kernel(config: Config, rank: int) -> list[int]:
    size = config["kernel_size"]
    return [int(n) for n in size] if isinstance(size, list) else [int(size)] * rank


def _dense(config: Config, shape: Shape) -> _Sizes:
    units = int(config["units"])
    return [(_known(shape[-1]), units), *_bias(config, units)]


def _conv(config: Config, shape: Shape) -> _Sizes:
    filters = int(config["filters"])
    each = _channels(config, shape) // int(config.get("groups") or 1)
    return [(*_kernel(config, len(shape) - 2), each, filters), *_bias(config, filters)]


def _transpose(config: Config, shape: Shape) -> _Sizes:
    filters = int(config["filters"])
    kernel = (*_kernel(config, len(shape) - 2), filters, _channels(config, shape))
    return [kernel, *_bias(config, filters)]


def _depthwise(config: Config, shape: Shape) -> _Sizes:
    channels, multiplier = (
        _channels(config, shape),
        int(config.get("depth_multiplier", 1)),
    )
    kernel = (*_kernel(config, len(shape) - 2), channels, multiplier)
    return [kernel, *_bias(config, channels * multiplier)]


def _separable(config: Config, shape: Shape) -> _Sizes:
    channels, multiplier = (
        _channels(config, shape),
        int(config.get("depth_multiplier", 1)),
    )
    filters, rank = int(config["filters"]), len(shape) - 2
    depthwise = (*_kernel(config, rank), channels, multiplier)
    pointwise = (*[1] * rank, channels * multiplier, filters)
    return [depthwise, pointwise, *_bias(config, filters)]


def _batch_norm(config: Config, shape: Shape) -> _Sizes:
    if config.get("renorm"):
        raise ValueError("renormalisation has further variables")
    axis = config.get("axis", -1)
    size = _known(shape[int(axis[0] if isinstance(axis, list) else axis)])
    count = bool(config.get("scale", True)) + bool(config.get("center", True)) + 2
    return [(size,)] * count


def _embedding(config: Config, shape: Shape) -> _Sizes:
    return [(int(config["input_dim"]), int(config["output_dim"]))]


def _recurrent(gates: int) -> Callable[[Config, Shape], _Sizes]:
    def rule(config: Config, shape: Shape) -> _Sizes:
        units, size = int(config["units"]), int(config["units"]) * gates
        bias: _Sizes = _bias(config, size)
        if gates == 3 and bias and config.get("reset_after", True):
            bias = [(2, size)]
        return [(_known(shape[-1]), size), (units, size), *bias]

    return rule


_GROUPS: dict[str, Any] = {
    "Dense": _dense,
    "Conv1D Conv2D Conv3D": _conv,
    "Conv1DTranspose Conv2DTranspose Conv3DTranspose": _transpose,
    "DepthwiseConv1D DepthwiseConv2D": _depthwise,
    "SeparableConv1D SeparableConv2D": _separable,
    "BatchNormalization": _batch_norm,
    "Embedding": _embedding,
    "SimpleRNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
}
_RULES: Mapping[str, Callable[[Config, Shape], _Sizes]] = MappingProxyType(
    {name: rule for names, rule in _GROUPS.items() for name in names.split()}
)
