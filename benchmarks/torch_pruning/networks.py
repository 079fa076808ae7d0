"""The networks that both sides build; this module knows neither framework."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """A name that both sides know, and one sample's shape: (height, width, 3) or (steps, width)."""

    name: str
    sample: tuple[int, ...]
    origin: str
    heads_told: bool = False
    """Whether Torch-Pruning is told which layers are attention's, and of how many heads."""


IMAGE = (224, 224, 3)
BOTH = "keras.applications, torchvision"
TWIN = "keras.applications, written alike in torch"
TWIN_KERAS = "written alike in Keras, torchvision"
OWN = "written alike on both sides"

NETWORKS = (
    Network("ResNet50", IMAGE, BOTH),
    Network("ResNet101", IMAGE, BOTH),
    Network("VGG16", IMAGE, BOTH),
    Network("DenseNet121", IMAGE, BOTH),
    Network("InceptionV3", (299, 299, 3), BOTH),
    Network("Xception", IMAGE, TWIN),
    Network("MobileNet", IMAGE, TWIN),
    Network("MobileNetV2", IMAGE, BOTH),
    Network("MobileNetV3Small", IMAGE, BOTH),
    Network("MobileNetV3Large", IMAGE, BOTH),
    Network("EfficientNetB0", IMAGE, BOTH),
    Network("EfficientNetV2S", IMAGE, BOTH),
    Network("ConvNeXtTiny", IMAGE, BOTH),
    Network("ShuffleNetV2", IMAGE, TWIN_KERAS),
    Network("LSTM", (32, 64), OWN),
    Network("ViT", (64, 64, 3), OWN),
    Network("ViT, heads told", (64, 64, 3), OWN, heads_told=True),
)

VARIANTS: dict[str, int | None] = {"default": None, "multiples of 16": 16}
"""What both sides are asked for as `round_to`; the default is each side's own."""


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        SystemExit: there is none; it lists those there are.
    """
    for each in NETWORKS:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in NETWORKS)
    raise SystemExit(f"No network is called {name}; there are {names}.")
