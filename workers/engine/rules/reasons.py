"""Why some layer classes of Keras have no rule: what touches them stays as it is."""

from collections.abc import Mapping
from types import MappingProxyType

import keras

_IMAGES = "prepares images, and its channels mean something to it"
_FOREIGN = "holds code that is no Keras layer, which is never run here"
_ENCODES = "turns single values into categories"
_WAVES = "turns a wave into its spectrum"
_ABSTRACT = "is a base class without a computation of its own"
_CELL = "is one step of a recurrent layer, and is only understood inside RNN"

_NAMES: Mapping[str, tuple[str, ...]] = {
    _IMAGES: (
        "AugMix",
        "AutoContrast",
        "ContrastLimitedAdaptiveHistogramEqualization",
        "CutMix",
        "Equalization",
        "MaxNumBoundingBoxes",
        "MixUp",
        "RandAugment",
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomCrop",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "Solarization",
    ),
    _FOREIGN: ("FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"),
    _ENCODES: (
        "CategoryEncoding",
        "Discretization",
        "HashedCrossing",
        "Hashing",
        "IntegerLookup",
        "StringLookup",
        "TextVectorization",
    ),
    _WAVES: ("MelSpectrogram", "STFTSpectrogram"),
    _ABSTRACT: ("InputLayer", "Layer", "Pipeline", "Wrapper"),
    _CELL: ("GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"),
}

REASONS: Mapping[type, str] = MappingProxyType(
    {
        getattr(keras.layers, name): reason
        for reason, names in _NAMES.items()
        for name in names
        if hasattr(keras.layers, name)
    }
)
