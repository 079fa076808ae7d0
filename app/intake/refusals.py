"""Layers that cannot be taken, told from the config alone, each with its reason."""

import re
from collections.abc import Iterator
from typing import Any

from app.domain.errors import InvalidModel
from app.intake.config import Config, Graph, Layer

KNOWN_LAYERS = frozenset(
    [
        "Activation",
        "ActivityRegularization",
        "AdaptiveAveragePooling1D",
        "AdaptiveAveragePooling2D",
        "AdaptiveAveragePooling3D",
        "AdaptiveMaxPooling1D",
        "AdaptiveMaxPooling2D",
        "AdaptiveMaxPooling3D",
        "Add",
        "AdditiveAttention",
        "AlphaDropout",
        "Attention",
        "AugMix",
        "AutoContrast",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "AveragePooling3D",
        "AvgPool1D",
        "AvgPool2D",
        "AvgPool3D",
        "BatchNormalization",
        "Bidirectional",
        "CategoryEncoding",
        "CenterCrop",
        "Concatenate",
        "ContrastLimitedAdaptiveHistogramEqualization",
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
        "ConvLSTM1D",
        "ConvLSTM2D",
        "ConvLSTM3D",
        "Convolution1D",
        "Convolution1DTranspose",
        "Convolution2D",
        "Convolution2DTranspose",
        "Convolution3D",
        "Convolution3DTranspose",
        "Cropping1D",
        "Cropping2D",
        "Cropping3D",
        "CutMix",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "Discretization",
        "Dot",
        "Dropout",
        "ELU",
        "EinsumDense",
        "Embedding",
        "Equalization",
        "Flatten",
        "GRU",
        "GRUCell",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalAveragePooling3D",
        "GlobalAvgPool1D",
        "GlobalAvgPool2D",
        "GlobalAvgPool3D",
        "GlobalMaxPool1D",
        "GlobalMaxPool2D",
        "GlobalMaxPool3D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "GlobalMaxPooling3D",
        "GroupNormalization",
        "GroupQueryAttention",
        "HashedCrossing",
        "Hashing",
        "Identity",
        "InputLayer",
        "IntegerLookup",
        "LSTM",
        "LSTMCell",
        "LayerNormalization",
        "LeakyReLU",
        "Masking",
        "MaxNumBoundingBoxes",
        "MaxPool1D",
        "MaxPool2D",
        "MaxPool3D",
        "MaxPooling1D",
        "MaxPooling2D",
        "MaxPooling3D",
        "Maximum",
        "MelSpectrogram",
        "Minimum",
        "MixUp",
        "MultiHeadAttention",
        "Multiply",
        "Normalization",
        "PReLU",
        "Permute",
        "Pipeline",
        "RMSNormalization",
        "RNN",
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
        "ReLU",
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "Resizing",
        "ReversibleEmbedding",
        "STFTSpectrogram",
        "SeparableConv1D",
        "SeparableConv2D",
        "SeparableConvolution1D",
        "SeparableConvolution2D",
        "SimpleRNN",
        "SimpleRNNCell",
        "Softmax",
        "Solarization",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "SpectralNormalization",
        "StackedRNNCells",
        "StringLookup",
        "Subtract",
        "TextVectorization",
        "TimeDistributed",
        "UnitNormalization",
        "UpSampling1D",
        "UpSampling2D",
        "UpSampling3D",
        "ZeroPadding1D",
        "ZeroPadding2D",
        "ZeroPadding3D",
        "Functional",
        "Model",
        "Sequential",
    ]
)
"""The layers of Keras 3.15 whose code is in Keras and not in the file. A test compares."""

REASONS = {
    "Lambda": "a Lambda layer carries Python code, which is never run here. "
    "Replace it by a built-in layer or a function of keras.ops",
    "TFSMLayer": "a TFSMLayer wraps a TensorFlow SavedModel, whose inside cannot be pruned. "
    "Upload the Keras model that the SavedModel was made from",
    "JaxLayer": "a JaxLayer wraps foreign code, which is never run here",
    "FlaxLayer": "a FlaxLayer wraps foreign code, which is never run here",
    "TorchModuleWrapper": "a TorchModuleWrapper wraps foreign code, which is never run here",
    "CuDNNLSTM": "CuDNNLSTM exists in neither TensorFlow 2 nor Keras 3. "
    "Load its weights into an LSTM where the model was made, and save that",
    "CuDNNGRU": "CuDNNGRU exists in neither TensorFlow 2 nor Keras 3. "
    "Load its weights into a GRU where the model was made, and save that",
    "TFOpLambda": "it records a raw TensorFlow function, which Keras 3 cannot load. "
    "Replace it by a Keras layer and save the model again",
    "SlicingOpLambda": "it records raw TensorFlow slicing, which Keras 3 cannot load. "
    "Replace it by a Cropping or Reshape layer and save the model again",
    "TensorFlowOpLayer": "it records a raw TensorFlow operation, which Keras 3 cannot load. "
    "Replace it by a Keras layer and save the model again",
    "LocallyConnected1D": "Keras 3 has no locally connected layers",
    "LocallyConnected2D": "Keras 3 has no locally connected layers",
    "DenseFeatures": "Keras 3 has no feature columns",
}
SCOPE_NAME = re.compile(r"[A-Za-z0-9_.\\/>-]+")
"""What TensorFlow accepts inside a name scope."""
WRAPPED = ("layer", "forward_layer", "backward_layer", "cell")
_KERAS_MODULES = ("keras", "builtins", "keras_core")


def check_layers(graph: Graph) -> None:
    """Refuse what Keras 3.15 cannot load safely, or what cannot be pruned.

    Raises:
        InvalidModel: names the first such layer and says why.
    """
    for layer in graph.every_layer():
        if not SCOPE_NAME.fullmatch(layer.name):
            raise InvalidModel(
                f"TensorFlow cannot run a layer called {layer.name!r}: names may hold ASCII "
                "letters, digits and _ . - / only. Rename the layer and save the model again."
            )
        for entry in (layer.entry, *wrapped_entries(layer.config)):
            check_class(layer.name, entry)
        if layer.inner is None:
            for part in _dictionaries(layer.entry):
                check_object(layer.name, part)
        check_precision(layer)


def check_class(name: str, entry: Config) -> None:
    """The class of one serialised layer.

    Raises:
        InvalidModel: it is not one that Keras 3.15 brings along.
    """
    class_name = str(entry.get("class_name"))
    module = entry.get("module")
    reason = REASONS.get(class_name)
    if reason is None and is_foreign(entry):
        reason = (
            f"class {class_name!r} comes from {module or entry.get('registered_name')!r} and not "
            "from Keras; its code is not in the file. Rebuild the model from built-in layers"
        )
    in_layers = module in (None, "keras", "keras.layers")
    if reason is None and in_layers and class_name not in KNOWN_LAYERS:
        reason = (
            f"Keras 3.15 has no layer {class_name!r}, and the code of custom layers is not in the "
            "file. Rebuild the model from built-in layers; if it is a function of keras.ops, "
            "save it as .keras instead of .h5"
        )
    if reason is not None:
        raise InvalidModel(f"Layer {name!r} cannot be used: {reason}.")


def check_object(name: str, entry: Config) -> None:
    """Any serialised object inside a layer: activations, initialisers, functions.

    Raises:
        InvalidModel: it carries code, or needs code that is not in Keras.
    """
    class_name = entry.get("class_name")
    if class_name == "__lambda__":
        raise InvalidModel(
            f"Layer {name!r} cannot be used: it holds a Python lambda, which is never run here. "
            "Replace it by a built-in activation or layer."
        )
    if class_name in ("__typespec__", "Lambda") or is_foreign(entry):
        what = entry.get("config") if class_name == "function" else class_name
        raise InvalidModel(
            f"Layer {name!r} cannot be used: it needs {what!r}, which Keras does not bring along; "
            "its code is not in the file. Replace it by a built-in one."
        )


def is_foreign(entry: Config) -> bool:
    """Whether a serialised object says that it comes from outside Keras."""
    module, registered = entry.get("module"), entry.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        return True
    if "module" not in entry:
        return False
    if not isinstance(module, str):
        return True
    return module.split(".")[0] not in _KERAS_MODULES


def check_precision(layer: Layer) -> None:
    """Quantised and adapted layers hold their weights in a form that cannot be pruned.

    Raises:
        InvalidModel: the layer is quantised, or has LoRA adapters.
    """
    for config in (layer.config, *(e["config"] for e in wrapped_entries(layer.config))):
        dtype = config.get("dtype")
        policy = dtype.get("config") if isinstance(dtype, dict) else None
        name = policy.get("name") if isinstance(policy, dict) else dtype
        kind = str(dtype.get("class_name")) if isinstance(dtype, dict) else ""
        mode = config.get("quantization_mode") or config.get("quantization_config")
        if "Quantized" in kind or "_from_" in str(name) or mode:
            raise InvalidModel(
                f"Layer {layer.name!r} is quantised ({mode or name or kind}); pruning works on "
                "float weights. Upload the model as it was before quantisation."
            )
        if config.get("lora_rank"):
            raise InvalidModel(
                f"Layer {layer.name!r} has LoRA adapters. Merge them into the weights and save "
                "the model again."
            )


def wrapped_entries(config: Config) -> Iterator[Config]:
    """Serialised layers inside a wrapper's config: TimeDistributed, Bidirectional, RNN."""
    found: list[Any] = [config.get(key) for key in WRAPPED]
    cells = config.get("cells")
    found.extend(cells if isinstance(cells, list) else [])
    for entry in found:
        items = entry if isinstance(entry, list) else [entry]
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("config"), dict):
                yield item
                yield from wrapped_entries(item["config"])


def _dictionaries(value: Any) -> Iterator[Config]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _dictionaries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _dictionaries(item)
