"""The networks in torch: torchvision's, or written like Keras's."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torchvision
from torch import nn

from benchmarks.torch_pruning.networks import network
from benchmarks.torch_pruning.torch_attention import Attention

zoo = torchvision.models


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with random weights, in evaluation mode, and a random sample (batch of 1)."""
    torch.manual_seed(0)
    sample = network(name).sample
    shape = (sample[2], *sample[:2]) if len(sample) == 3 else sample
    return BUILDERS[name]().eval(), torch.randn(1, *shape)


def classifier(model: nn.Module) -> nn.Module:
    """The last linear layer, whose outputs are the classes."""
    return [each for each in model.modules() if isinstance(each, nn.Linear)][-1]


def heads(model: nn.Module) -> dict[nn.Module, int]:
    """Heads of each attention, by its projection; what Torch-Pruning can be told."""
    return {each.qkv: each.heads for each in model.modules() if isinstance(each, Attention)}


def _resnet(make: Callable[[], nn.Module]) -> nn.Module:
    """Strides on the first 1x1 convolution of a stage, as in the paper and in Keras."""
    model = make()
    for block in model.modules():
        if isinstance(block, zoo.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    return model


def _convolution(
    before: int, after: int, size: int, stride: int = 1, padding: int | None = None, groups: int = 1
) -> nn.Conv2d:
    padding = size // 2 if padding is None else padding
    return nn.Conv2d(before, after, size, stride, padding, groups=groups, bias=False)


def _mobilenet() -> nn.Module:
    """[Howard et al. 2017, arXiv:1704.04861], as keras.applications.MobileNet."""
    layers: list[nn.Module] = [_convolution(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6()]
    before = 32
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    widths = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    for after, stride in zip(widths, strides, strict=True):
        layers += [_convolution(before, before, 3, stride, groups=before)]
        layers += [nn.BatchNorm2d(before), nn.ReLU6()]
        layers += [_convolution(before, after, 1), nn.BatchNorm2d(after), nn.ReLU6()]
        before = after
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1000)]
    return nn.Sequential(*layers, *head)


def _separable(before: int, after: int) -> list[nn.Module]:
    depthwise = _convolution(before, before, 3, groups=before)
    return [depthwise, _convolution(before, after, 1), nn.BatchNorm2d(after)]


class _XceptionBlock(nn.Module):
    def __init__(self, widths: tuple[int, ...], *, first: bool = True, halve: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.ReLU(), *_separable(before, after)]
        self.path = nn.Sequential(*layers[0 if first else 1 :])
        self.shortcut: nn.Module = nn.Identity()
        if halve:
            self.path.append(nn.MaxPool2d(3, 2, 1))
            shortcut = _convolution(widths[0], widths[-1], 1, 2)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(widths[-1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.path(x) + self.shortcut(x)


def _xception() -> nn.Module:
    """[Chollet 2016, arXiv:1610.02357], as keras.applications.Xception."""
    stem = [_convolution(3, 32, 3, 2, 0), nn.BatchNorm2d(32), nn.ReLU()]
    stem += [_convolution(32, 64, 3, 1, 0), nn.BatchNorm2d(64), nn.ReLU()]
    body = [_XceptionBlock((64, 128, 128), first=False)]
    body += [_XceptionBlock((128, 256, 256)), _XceptionBlock((256, 728, 728))]
    body += [_XceptionBlock((728,) * 4, halve=False) for _ in range(8)]
    body += [_XceptionBlock((728, 728, 1024))]
    tail = [*_separable(1024, 1536), nn.ReLU(), *_separable(1536, 2048), nn.ReLU()]
    return nn.Sequential(
        *stem, *body, *tail, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)
    )


class _Lstm(nn.Module):
    """Two LSTM layers and a classifier over the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(64, 128, batch_first=True)
        self.second = nn.LSTM(128, 128, batch_first=True)
        self.classes = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, _ = self.first(x)
        steps, _ = self.second(steps)
        return self.classes(steps[:, -1])


class _VitBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before_attention(x))
        return x + self.mlp(self.before_mlp(x))


class _Vit(nn.Module):
    """Four transformer blocks of DeiT-tiny's width over 8x8 patches."""

    def __init__(self, width: int = 192, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.blocks = nn.Sequential(*[_VitBlock(width, heads) for _ in range(4)])
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.classes(self.norm(self.blocks(tokens)).mean(1))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "ResNet50": lambda: _resnet(zoo.resnet50),
    "ResNet101": lambda: _resnet(zoo.resnet101),
    "VGG16": zoo.vgg16,
    "DenseNet121": zoo.densenet121,
    "InceptionV3": lambda: zoo.inception_v3(aux_logits=False, init_weights=False),
    "Xception": _xception,
    "MobileNet": _mobilenet,
    "MobileNetV2": zoo.mobilenet_v2,
    "MobileNetV3Small": zoo.mobilenet_v3_small,
    "MobileNetV3Large": zoo.mobilenet_v3_large,
    "EfficientNetB0": zoo.efficientnet_b0,
    "EfficientNetV2S": zoo.efficientnet_v2_s,
    "ConvNeXtTiny": zoo.convnext_tiny,
    "ShuffleNetV2": zoo.shufflenet_v2_x1_0,
    "LSTM": _Lstm,
    "ViT": _Vit,
    "ViT, heads told": _Vit,
}
