"""What sliding, pooling, padding and resizing layers do to a shape."""

from typing import Any

from app.intake.config import Config, Shape


def split(config: Config, shape: Shape) -> tuple[list[int | None], int | None, bool]:
    """Spatial axes, channels, and whether these come last."""
    last = config.get("data_format") != "channels_first"
    return (list(shape[1:-1]), shape[-1], True) if last else (list(shape[2:]), shape[1], False)


def join(batch: int | None, spatial: list[int | None], channels: int | None, last: bool) -> Shape:
    """The shape of given axes."""
    return (batch, *spatial, channels) if last else (batch, channels, *spatial)


def numbers(value: Any, count: int) -> list[int]:
    """A setting that is one number for all axes, or one for each."""
    items = value if isinstance(value, (list, tuple)) else [value] * count
    return [int(item) for item in items]


def _window(size: int | None, kernel: int, stride: int, padding: str) -> int | None:
    if size is None:
        return None
    if padding in ("same", "causal"):
        return -(-size // stride)
    return (size - kernel) // stride + 1


def _slide(config: Config, shape: Shape, size_key: str, channels: int | None) -> Shape:
    spatial, _, last = split(config, shape)
    count = len(spatial)
    sizes = numbers(config[size_key], count)
    strides = numbers(config.get("strides") or sizes, count)
    dilation = numbers(config.get("dilation_rate", 1), count)
    kernels = [(size - 1) * rate + 1 for size, rate in zip(sizes, dilation, strict=True)]
    padding = str(config.get("padding", "valid"))
    new = [_window(*item, padding) for item in zip(spatial, kernels, strides, strict=True)]
    return join(shape[0], new, channels, last)


def conv(config: Config, shape: Shape) -> Shape:
    """Convolutions with filters of their own."""
    return _slide(config, shape, "kernel_size", int(config["filters"]))


def depthwise(config: Config, shape: Shape) -> Shape:
    """Convolutions of each channel by itself."""
    channels = split(config, shape)[1]
    multiplier = int(config.get("depth_multiplier", 1))
    return _slide(config, shape, "kernel_size", channels and channels * multiplier)


def pool(config: Config, shape: Shape) -> Shape:
    """Pooling over windows."""
    return _slide(config, shape, "pool_size", split(config, shape)[1])


def transpose(config: Config, shape: Shape) -> Shape:
    """Transposed convolutions."""
    spatial, _, last = split(config, shape)
    count = len(spatial)
    kernels, strides = (numbers(config[key], count) for key in ("kernel_size", "strides"))
    dilation = numbers(config.get("dilation_rate", 1), count)
    given = config.get("output_padding")
    extra = None if given is None else numbers(given, count)
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
    return join(shape[0], new, int(config["filters"]), last)


def global_pool(config: Config, shape: Shape) -> Shape:
    """Pooling over all of space."""
    spatial, channels, last = split(config, shape)
    if config.get("keepdims"):
        return join(shape[0], [1] * len(spatial), channels, last)
    return (shape[0], channels)


def _pad(config: Config, shape: Shape, key: str, sign: int) -> Shape:
    spatial, channels, last = split(config, shape)
    pairs = config[key] if isinstance(config[key], list) else [config[key]] * len(spatial)
    if len(spatial) == 1 and len(pairs) == 2 and not isinstance(pairs[0], list):
        pairs = [pairs]
    new = [
        None if size is None else size + sign * sum(numbers(pair, 2))
        for size, pair in zip(spatial, pairs, strict=True)
    ]
    return join(shape[0], new, channels, last)


def zero_pad(config: Config, shape: Shape) -> Shape:
    """Padding with zeros."""
    return _pad(config, shape, "padding", 1)


def crop(config: Config, shape: Shape) -> Shape:
    """Cutting off the rims."""
    return _pad(config, shape, "cropping", -1)


def upsample(config: Config, shape: Shape) -> Shape:
    """Repeating rows and columns."""
    spatial, channels, last = split(config, shape)
    factors = numbers(config["size"], len(spatial))
    new = [n and n * factor for n, factor in zip(spatial, factors, strict=True)]
    return join(shape[0], new, channels, last)


def resize(config: Config, shape: Shape) -> Shape:
    """Images brought to one height and width."""
    _, channels, last = split(config, shape)
    size: list[int | None] = [int(config["height"]), int(config["width"])]
    return join(shape[0], size, channels, last)


def adaptive_pool(config: Config, shape: Shape) -> Shape:
    """Pooling to a given size."""
    spatial, channels, last = split(config, shape)
    size: list[int | None] = list(numbers(config["output_size"], len(spatial)))
    return join(shape[0], size, channels, last)


def conv_recurrent(config: Config, shape: Shape) -> list[Shape | None]:
    """Convolutional LSTM over the axis behind the batch: its output, then its two states."""
    each = conv(config, (shape[0], *shape[2:]))
    output = (shape[0], shape[1], *each[1:]) if config.get("return_sequences") else each
    return [output, *([each, each] if config.get("return_state") else [])]
