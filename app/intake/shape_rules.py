"""What a layer of a class does to a shape.

Where the config does not tell, the shape is `None`: nothing is guessed.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from app.intake.config import Config, Shape

Shapes = list[Shape | None]

_ELEMENTWISE = frozenset(
    [
        "Activation",
        "ActivityRegularization",
        "AlphaDropout",
        "BatchNormalization",
        "Dropout",
        "ELU",
        "GaussianDropout",
        "GaussianNoise",
        "GroupNormalization",
        "Identity",
        "LayerNormalization",
        "LeakyReLU",
        "Masking",
        "Normalization",
        "PReLU",
        "RMSNormalization",
        "ReLU",
        "Rescaling",
        "Softmax",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "SpectralNormalization",
        "UnitNormalization",
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomTranslation",
        "RandomContrast",
        "RandomBrightness",
    ]
)
_MERGES = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN"})


def infer_class(class_name: str, config: Config, inputs: Shapes) -> Shapes:
    """Output shapes of one call of a layer of a class."""
    if not inputs or inputs[0] is None:
        return [None]
    try:
        if class_name in _MERGES:
            return [_merge([shape for shape in inputs if shape is not None], len(inputs))]
        if class_name == "Concatenate":
            return [_concatenate(config, inputs)]
        if class_name in _RECURRENT:
            return _recurrent(config, inputs[0])
        if class_name == "Bidirectional":
            return _bidirectional(config, inputs)
        rule = _RULES.get(class_name)
        return [rule(config, inputs[0]) if rule else None]
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        ZeroDivisionError,
        AttributeError,
    ):
        # The config does not say what this class of Keras 3 says; loading it will tell.
        return [None]


def _same(config: Config, shape: Shape) -> Shape:
    return shape


def _dense(config: Config, shape: Shape) -> Shape:
    return (*shape[:-1], int(config["units"]))


def _embedding(config: Config, shape: Shape) -> Shape:
    return (*shape, int(config["output_dim"]))


def _flatten(config: Config, shape: Shape) -> Shape:
    rest = shape[1:]
    return (
        shape[0],
        None if None in rest else math.prod(n for n in rest if n is not None),
    )


def _reshape(config: Config, shape: Shape) -> Shape:
    target = [int(n) for n in config["target_shape"]]
    if -1 not in target:
        return (shape[0], *target)
    total = _flatten(config, shape)[1]
    rest = math.prod(n for n in target if n != -1)
    free = None if total is None else total // rest
    return (shape[0], *(free if n == -1 else n for n in target))


def _permute(config: Config, shape: Shape) -> Shape:
    return (shape[0], *(shape[int(axis)] for axis in config["dims"]))


def _repeat(config: Config, shape: Shape) -> Shape:
    return (shape[0], int(config["n"]), *shape[1:])


def _split(config: Config, shape: Shape) -> tuple[list[int | None], int | None, bool]:
    last = config.get("data_format") != "channels_first"
    return (list(shape[1:-1]), shape[-1], True) if last else (list(shape[2:]), shape[1], False)


def _join(batch: int | None, spatial: list[int | None], channels: int | None, last: bool) -> Shape:
    return (batch, *spatial, channels) if last else (batch, channels, *spatial)


def _numbers(value: Any, count: int) -> list[int]:
    items = value if isinstance(value, (list, tuple)) else [value] * count
    return [int(item) for item in items]


def _window(size: int | None, kernel: int, stride: int, padding: str) -> int | None:
    if size is None:
        return None
    if padding in ("same", "causal"):
        return -(-size // stride)
    return (size - kernel) // stride + 1


def _slide(config: Config, shape: Shape, size_key: str, channels: int | None) -> Shape:
    spatial, _, last = _split(config, shape)
    count = len(spatial)
    sizes = _numbers(config[size_key], count)
    strides = _numbers(config.get("strides") or sizes, count)
    dilation = _numbers(config.get("dilation_rate", 1), count)
    kernels = [(size - 1) * rate + 1 for size, rate in zip(sizes, dilation, strict=True)]
    padding = str(config.get("padding", "valid"))
    new = [_window(*item, padding) for item in zip(spatial, kernels, strides, strict=True)]
    return _join(shape[0], new, channels, last)


def _conv(config: Config, shape: Shape) -> Shape:
    return _slide(config, shape, "kernel_size", int(config["filters"]))


def _depthwise(config: Config, shape: Shape) -> Shape:
    channels = _split(config, shape)[1]
    multiplier = int(config.get("depth_multiplier", 1))
    return _slide(config, shape, "kernel_size", channels and channels * multiplier)


def _pool(config: Config, shape: Shape) -> Shape:
    return _slide(config, shape, "pool_size", _split(config, shape)[1])


def _transpose(config: Config, shape: Shape) -> Shape:
    spatial, _, last = _split(config, shape)
    count = len(spatial)
    kernels, strides = (_numbers(config[key], count) for key in ("kernel_size", "strides"))
    dilation = _numbers(config.get("dilation_rate", 1), count)
    given = config.get("output_padding")
    extra = None if given is None else _numbers(given, count)
    new: list[int | None] = []
    for i, size in enumerate(spatial):
        kernel = (kernels[i] - 1) * dilation[i] + 1
        same = config.get("padding") == "same"
        if size is None:
            new.append(None)
        elif extra is None:
            new.append(size * strides[i] + (0 if same else max(kernel - strides[i], 0)))
        else:
            pad = 2 * (kernel // 2) if same else 0
            new.append((size - 1) * strides[i] + kernel - pad + extra[i])
    return _join(shape[0], new, int(config["filters"]), last)


def _global_pool(config: Config, shape: Shape) -> Shape:
    spatial, channels, last = _split(config, shape)
    if config.get("keepdims"):
        return _join(shape[0], [1] * len(spatial), channels, last)
    return (shape[0], channels)


def _pad(config: Config, shape: Shape, key: str, sign: int) -> Shape:
    spatial, channels, last = _split(config, shape)
    pairs = config[key] if isinstance(config[key], list) else [config[key]] * len(spatial)
    if len(spatial) == 1 and len(pairs) == 2 and not isinstance(pairs[0], list):
        pairs = [pairs]
    new = [
        None if size is None else size + sign * sum(_numbers(pair, 2))
        for size, pair in zip(spatial, pairs, strict=True)
    ]
    return _join(shape[0], new, channels, last)


def _zero_pad(config: Config, shape: Shape) -> Shape:
    return _pad(config, shape, "padding", 1)


def _crop(config: Config, shape: Shape) -> Shape:
    return _pad(config, shape, "cropping", -1)


def _upsample(config: Config, shape: Shape) -> Shape:
    spatial, channels, last = _split(config, shape)
    factors = _numbers(config["size"], len(spatial))
    new = [n and n * factor for n, factor in zip(spatial, factors, strict=True)]
    return _join(shape[0], new, channels, last)


def _resize(config: Config, shape: Shape) -> Shape:
    _, channels, last = _split(config, shape)
    size: list[int | None] = [int(config["height"]), int(config["width"])]
    return _join(shape[0], size, channels, last)


def _attention(config: Config, shape: Shape) -> Shape | None:
    target = config.get("output_shape")
    if target is None:
        return shape
    return (*shape[:-1], *_numbers(target, 1))


def _recurrent(config: Config, shape: Shape) -> Shapes:
    sizes = _state_sizes(config)
    units = sizes[-1] if "cell" in config else sizes[0]
    output: Shape = (shape[0], units)
    if config.get("return_sequences"):
        output = (shape[0], shape[1], units)
    states: Shapes = [(shape[0], size) for size in sizes for _ in range(2)]
    return [output, *(states if config.get("return_state") else [])]


def _state_sizes(config: Config) -> list[int]:
    if "cell" not in config:
        return [int(config["units"])]
    cell = config["cell"]["config"]
    cells = cell.get("cells", [{"config": cell}])
    return [int(item["config"]["units"]) for item in cells]


def _bidirectional(config: Config, inputs: Shapes) -> Shapes:
    inner = config["layer"]
    forward = infer_class(inner["class_name"], inner["config"], inputs)
    output, states = forward[0], forward[1:]
    if output is None:
        return [None]
    mode = config.get("merge_mode", "concat")
    if mode is None:
        return [output, output, *states, *states]
    if mode == "concat" and output[-1] is not None:
        output = (*output[:-1], 2 * output[-1])
    return [output, *states, *states]


def _merge(shapes: list[Shape], count: int) -> Shape | None:
    if len(shapes) != count:
        return None
    rank = max(len(shape) for shape in shapes)
    if any(len(shape) != rank for shape in shapes):
        return None
    merged: list[int | None] = []
    for sizes in zip(*shapes, strict=True):
        fixed = {size for size in sizes if size not in (None, 1)}
        merged.append(fixed.pop() if fixed else (1 if None not in sizes else None))
    return tuple(merged)


def _concatenate(config: Config, inputs: Shapes) -> Shape | None:
    shapes = [shape for shape in inputs if shape is not None]
    if len(shapes) != len(inputs):
        return None
    axis = int(config.get("axis", -1)) % len(shapes[0])
    sizes = [shape[axis] for shape in shapes]
    joined = list(shapes[0])
    joined[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
    return tuple(joined)


_GROUPS: Mapping[str, Callable[[Config, Shape], Shape | None]] = MappingProxyType(
    {
        " ".join(_ELEMENTWISE): _same,
        "Dense": _dense,
        "Embedding": _embedding,
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Permute": _permute,
        "RepeatVector": _repeat,
        "Conv1D Conv2D Conv3D SeparableConv1D SeparableConv2D": _conv,
        "DepthwiseConv1D DepthwiseConv2D": _depthwise,
        "Conv1DTranspose Conv2DTranspose Conv3DTranspose": _transpose,
        "AveragePooling1D AveragePooling2D AveragePooling3D": _pool,
        "MaxPooling1D MaxPooling2D MaxPooling3D": _pool,
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D": _global_pool,
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D": _global_pool,
        "ZeroPadding1D ZeroPadding2D ZeroPadding3D": _zero_pad,
        "Cropping1D Cropping2D Cropping3D": _crop,
        "UpSampling1D UpSampling2D UpSampling3D": _upsample,
        "Resizing CenterCrop RandomCrop": _resize,
        "MultiHeadAttention": _attention,
        "Attention AdditiveAttention": _same,
    }
)
_RULES: Mapping[str, Callable[[Config, Shape], Shape | None]] = MappingProxyType(
    {name: rule for names, rule in _GROUPS.items() for name in names.split()}
)
