"""The networks in Keras: keras.applications', or written like torch's."""

from collections.abc import Callable
from typing import Any

import keras

from benchmarks.torch_pruning.networks import network

apps = keras.applications
layers = keras.layers
ops = keras.ops
Sample = tuple[int, ...]


def build(name: str) -> Any:
    """A network with random weights that gives logits."""
    keras.utils.set_random_seed(0)
    return BUILDERS[name](network(name).sample)


def _application(make: Callable[..., Any], **options: Any) -> Callable[[Sample], Any]:
    """Logits, as torchvision's networks give, and no rescaling of pixels where that is a choice."""
    return lambda sample: make(
        weights=None, input_shape=sample, classifier_activation=None, **options
    )


def _shuffled(x: Any) -> Any:
    height, width, channels = x.shape[1:]
    x = layers.Reshape((height, width, 2, channels // 2))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    return layers.Reshape((height, width, channels))(x)


def _pointwise(x: Any, channels: int) -> Any:
    x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _depthwise(x: Any, stride: int) -> Any:
    x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _shuffle_unit(x: Any, channels: int, stride: int) -> Any:
    if stride == 1:
        left, x = ops.split(x, 2, axis=-1)
    else:
        left = _pointwise(_depthwise(x, stride), channels // 2)
    right = _pointwise(_depthwise(_pointwise(x, channels // 2), stride), channels // 2)
    return _shuffled(layers.Concatenate()([left, right]))


def _shufflenet(sample: Sample) -> Any:
    """[Ma et al. 2018, arXiv:1807.11164], as torchvision's shufflenet_v2_x1_0."""
    inputs = keras.Input(sample)
    x = layers.Conv2D(24, 3, 2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for channels, units in ((116, 4), (232, 8), (464, 4)):
        for unit in range(units):
            x = _shuffle_unit(x, channels, 2 if unit == 0 else 1)
    x = layers.GlobalAveragePooling2D()(_pointwise(x, 1024))
    return keras.Model(inputs, layers.Dense(1000)(x), name="shufflenet_v2")


def _lstm(sample: Sample) -> Any:
    """Two LSTM layers and a classifier over the last step."""
    return keras.Sequential(
        [
            keras.Input(sample),
            layers.LSTM(128, return_sequences=True),
            layers.LSTM(128),
            layers.Dense(10),
        ],
        name="lstm",
    )


def _attention(x: Any, heads: int) -> Any:
    """Self-attention from one projection to q, k and v, in plain operations."""
    tokens, width = x.shape[1:]
    size = width // heads
    qkv = layers.Reshape((tokens, 3, heads, size))(layers.Dense(3 * width)(x))
    q, k, v = (ops.transpose(qkv[:, :, part], (0, 2, 1, 3)) for part in range(3))
    scores = ops.matmul(q * size**-0.5, ops.transpose(k, (0, 1, 3, 2)))
    mixed = ops.transpose(ops.matmul(layers.Softmax()(scores), v), (0, 2, 1, 3))
    return layers.Dense(width)(layers.Reshape((tokens, width))(mixed))


def _vit(sample: Sample, width: int = 192, heads: int = 3) -> Any:
    """Four transformer blocks of DeiT-tiny's width over 8x8 patches."""
    inputs = keras.Input(sample)
    x = layers.Reshape((-1, width))(layers.Conv2D(width, 8, 8)(inputs))
    for _ in range(4):
        x = layers.Add()([x, _attention(layers.LayerNormalization(epsilon=1e-5)(x), heads)])
        hidden = layers.Dense(4 * width)(layers.LayerNormalization(epsilon=1e-5)(x))
        hidden = layers.Dense(width)(layers.Activation("gelu")(hidden))
        x = layers.Add()([x, hidden])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5)(x))
    return keras.Model(inputs, layers.Dense(10)(x), name="vit")


BUILDERS: dict[str, Callable[[Sample], Any]] = {
    "ResNet50": _application(apps.ResNet50),
    "ResNet101": _application(apps.ResNet101),
    "VGG16": _application(apps.VGG16),
    "DenseNet121": _application(apps.DenseNet121),
    "InceptionV3": _application(apps.InceptionV3),
    "Xception": _application(apps.Xception),
    "MobileNet": _application(apps.MobileNet),
    "MobileNetV2": _application(apps.MobileNetV2),
    "MobileNetV3Small": _application(apps.MobileNetV3Small, include_preprocessing=False),
    "MobileNetV3Large": _application(apps.MobileNetV3Large, include_preprocessing=False),
    "EfficientNetB0": _application(apps.EfficientNetB0),
    "EfficientNetV2S": _application(apps.EfficientNetV2S, include_preprocessing=False),
    "ConvNeXtTiny": _application(apps.ConvNeXtTiny, include_preprocessing=False),
    "ShuffleNetV2": _shufflenet,
    "LSTM": _lstm,
    "ViT": _vit,
    "ViT, heads told": _vit,
}
