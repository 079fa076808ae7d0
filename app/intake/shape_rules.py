"""What a layer of a class does to a shape.

Where the config does not tell, the shape is `None`: nothing is guessed.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from app.intake import shape_windows as windows
from app.intake.config import Config, Shape
from app.intake.shape_windows import numbers

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
        "UnitNormalization",
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomTranslation",
        "RandomContrast",
        "RandomBrightness",
        *[f"Random{what}" for what in ("ColorDegeneration", "ColorJitter", "ElasticTransform")],
        *[f"Random{what}" for what in ("Erasing", "GaussianBlur", "Grayscale", "Hue", "Invert")],
        *[f"Random{what}" for what in ("Perspective", "Posterization", "Saturation")],
        *[f"Random{what}" for what in ("Sharpness", "Shear")],
        *["AutoContrast", "Solarization", "RandAugment", "AugMix"],
        "ContrastLimitedAdaptiveHistogramEqualization",
        "Hashing",
    ]
)
_MERGES = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
_WRAPPERS = frozenset({"SpectralNormalization"})
"""Layers that do to a shape what the layer inside them does."""
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
        if class_name in _WRAPPERS:
            inner = config["layer"]
            return infer_class(inner["class_name"], inner["config"], inputs)
        if class_name.startswith("ConvLSTM"):
            return windows.conv_recurrent(config, inputs[0])
        if class_name == "Dot":
            return [_dot(config, inputs)]
        if class_name in ("Attention", "AdditiveAttention"):
            return _attend(inputs)
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


def _reversible(config: Config, shape: Shape) -> Shape:
    """An embedding that, called with `reverse`, scores every word instead."""
    if config.get("reverse"):
        return (*shape[:-1], int(config["input_dim"]))
    return _embedding(config, shape)


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


def _attention(config: Config, shape: Shape) -> Shape | None:
    target = config.get("output_shape")
    if target is None:
        return shape
    return (*shape[:-1], *numbers(target, 1))


def _attend(inputs: Shapes) -> Shapes:
    """Queries, values and perhaps keys: as many rows as queries, as wide as values."""
    query, value = inputs[0], inputs[1] if len(inputs) > 1 else None
    if query is None or value is None:
        return [None]
    return [(*query[:-1], value[-1]), (*query[:-1], value[-2])]


def _einsum(config: Config, shape: Shape) -> Shape:
    """`output_shape` names all axes but the batch and those that the equation's dots stand for."""
    left = config["equation"].split(",")[0]
    rest = config["output_shape"]
    full: list[int | None] = [shape[0], *(rest if isinstance(rest, list) else [rest])]
    elided = len(shape) - len(left.replace("...", ""))
    if left.startswith("..."):
        full[1:1] = shape[1:elided]
    else:
        full.extend(shape[len(shape) - elided :])
    return tuple(None if size is None else int(size) for size in full)


def _categories(config: Config, shape: Shape) -> Shape | None:
    """One-hot adds an axis, the other modes count over the last one."""
    mode = config.get("output_mode", "multi_hot" if "num_tokens" in config else "int")
    if mode == "int":
        return shape
    size = config.get("num_tokens")
    if not isinstance(size, int):
        return None
    if mode == "one_hot":
        return (*(shape[:-1] if shape[-1] == 1 else shape), size)
    return (*shape[:-1], size)


def _dot(config: Config, inputs: Shapes) -> Shape | None:
    a, b = inputs
    if a is None or b is None:
        return None
    axes = config["axes"] if isinstance(config["axes"], list) else [config["axes"]] * 2
    first, second = (axis % len(shape) for axis, shape in zip(axes, (a, b), strict=True))
    left = [n for i, n in enumerate(a) if i != first]
    right = [n for i, n in enumerate(b) if i not in (0, second)]
    return tuple(left + right) if len(left + right) > 1 else (a[0], 1)


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
    # Behind the batch, missing axes are taken to be of length 1.
    shapes = [(shape[0], *[1] * (rank - len(shape)), *shape[1:]) for shape in shapes if shape]
    return broadcast(shapes)


def broadcast(shapes: list[Shape]) -> Shape:
    """The shape of shapes of one rank that are combined element by element."""
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
        "ReversibleEmbedding": _reversible,
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Permute": _permute,
        "RepeatVector": _repeat,
        "Conv1D Conv2D Conv3D SeparableConv1D SeparableConv2D": windows.conv,
        "DepthwiseConv1D DepthwiseConv2D": windows.depthwise,
        "Conv1DTranspose Conv2DTranspose Conv3DTranspose": windows.transpose,
        "AveragePooling1D AveragePooling2D AveragePooling3D": windows.pool,
        "MaxPooling1D MaxPooling2D MaxPooling3D": windows.pool,
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D": windows.global_pool,
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D": windows.global_pool,
        "ZeroPadding1D ZeroPadding2D ZeroPadding3D": windows.zero_pad,
        "Cropping1D Cropping2D Cropping3D": windows.crop,
        "UpSampling1D UpSampling2D UpSampling3D": windows.upsample,
        "Resizing CenterCrop RandomCrop": windows.resize,
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D": (
            windows.adaptive_pool
        ),
        "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D": windows.adaptive_pool,
        "MultiHeadAttention GroupQueryAttention GroupedQueryAttention": _attention,
        "EinsumDense": _einsum,
        "CategoryEncoding Discretization IntegerLookup StringLookup": _categories,
    }
)
_RULES: Mapping[str, Callable[[Config, Shape], Shape | None]] = MappingProxyType(
    {name: rule for names, rule in _GROUPS.items() for name in names.split()}
)
