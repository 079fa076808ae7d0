"""Configs of single layers: from what Keras 2 wrote to what Keras 3.15 reads."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.intake.config import Config
from app.intake.known import ACTIVATIONS
from app.intake.legacy.notes import Notes, refuse

ANY = object()
"""The setting may have any value: it changes nothing that is computed."""

RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN"})
CONV_RECURRENT = frozenset({"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"})

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "BatchNormalizationV1": "BatchNormalization",
        "BatchNormalizationV2": "BatchNormalization",
        "UnifiedLSTM": "LSTM",
        "UnifiedGRU": "GRU",
        "AvgPool1D": "AveragePooling1D",
        "AvgPool2D": "AveragePooling2D",
        "MaxPool1D": "MaxPooling1D",
        "MaxPool2D": "MaxPooling2D",
        "Convolution1D": "Conv1D",
        "Convolution2D": "Conv2D",
        "Convolution3D": "Conv3D",
    }
)

_DROPPED_EVERYWHERE: Mapping[str, Any] = MappingProxyType(
    {
        "batch_input_shape": ANY,
        "input_shape": ANY,
        "input_dtype": ANY,
        "dynamic": (False, None),
        "rng_type": ANY,
        "force_generator": ANY,
        "autocast": ANY,
    }
)
_RNN = {
    "time_major": (False, None),
    "implementation": ANY,
    "input_dim": ANY,
    "input_length": ANY,
}
_KERNEL = {
    "kernel_initializer": ANY,
    "kernel_regularizer": ANY,
    "kernel_constraint": ANY,
}
_DROPPED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        **dict.fromkeys(RECURRENT | CONV_RECURRENT, _RNN),
        **{name: {"implementation": ANY} for name in ("LSTMCell", "GRUCell", "SimpleRNNCell")},
        **{
            name: {**_KERNEL, "groups": (1, None)}
            for name in ("SeparableConv1D", "SeparableConv2D")
        },
        **{
            name: {**_KERNEL, "groups": (1, None), "filters": ANY}
            for name in ("DepthwiseConv1D", "DepthwiseConv2D")
        },
        **{f"Conv{rank}DTranspose": {"groups": (1, None)} for rank in (1, 2, 3)},
        "BatchNormalization": {
            "fused": ANY,
            "virtual_batch_size": (None,),
            "adjustment": (None,),
            "mode": (0, None),
            "renorm": (False, None),
            "renorm_clipping": ANY,
            "renorm_momentum": ANY,
        },
        "Embedding": {"input_length": ANY, "sparse": ANY},
        "Softmax": {"robust_masking": ANY},
        "MultiHeadAttention": {
            "softmax_robust_masking": ANY,
            "query_shape": ANY,
            "key_shape": ANY,
            "value_shape": ANY,
        },
        "Discretization": {"trainable": ANY},
        **{
            f"SpatialDropout{rank}D": {"noise_shape": (None,), "trainable": ANY}
            for rank in (1, 2, 3)
        },
        "InputLayer": {"ragged": (False, None), "type_spec": (None,), "trainable": ANY},
        "Dropout": {"trainable": ANY},
    }
)
_WHY_DROPPED = "Keras 3 does not know the setting; its value changes nothing that is computed"

_ACTIVATION_KEYS = ("activation", "recurrent_activation")
_INITIALIZERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Zeros": (),
        "Ones": (),
        "Constant": ("value",),
        "RandomUniform": ("minval", "maxval", "seed"),
        "RandomNormal": ("mean", "stddev", "seed"),
        "TruncatedNormal": ("mean", "stddev", "seed"),
        "VarianceScaling": ("scale", "mode", "distribution", "seed"),
        "Orthogonal": ("gain", "seed"),
        "Identity": ("gain",),
        **{
            f"{family}{kind}": ("seed",)
            for family in ("Glorot", "He", "Lecun")
            for kind in ("Normal", "Uniform")
        },
    }
)
_INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5")
_SLOPES = ("alpha", "negative_slope", "max_value", "threshold", "theta")


def safe_name(name: str) -> str:
    """A layer's name without slashes, which Keras 3 refuses."""
    return name.replace("/", "_")


def class_of(entry: Config) -> str:
    """The Keras 3 name of a serialised layer's class."""
    name = str(entry.get("class_name"))
    return ALIASES.get(name, name)


def layer_config(class_name: str, name: str, old: Config, notes: Notes) -> Config:
    """The config of one layer, without its wrapped layers, as Keras 3.15 takes it.

    Raises:
        InvalidModel: a setting cannot be carried over exactly.
    """
    config = dict(old)
    _drop(class_name, name, config, notes)
    _plain_numbers(config)
    _policy(name, config, notes)
    for key in list(config):
        if key.endswith("_initializer"):
            config[key] = _initializer(name, config[key], notes)
        elif key.endswith(("_regularizer", "_constraint")):
            config[key] = _keras_object(config[key])
    for key in _ACTIVATION_KEYS:
        if key in config:
            config[key] = _activation(name, config[key])
    _by_class(class_name, name, config, notes)
    return config


def _drop(class_name: str, name: str, config: Config, notes: Notes) -> None:
    rules = {**_DROPPED_EVERYWHERE, **_DROPPED.get(class_name, {})}
    for key, allowed in rules.items():
        if key not in config:
            continue
        value = config.pop(key)
        if allowed is not ANY and value not in allowed:
            raise refuse(name, _REFUSED.get(key, f"Keras 3 has no {key}={value!r}"))
        if key == "time_major":
            notes.mend(name, "time_major=False removed", _WHY_DROPPED)


_REFUSED = {
    "time_major": "time_major=True has no equal in Keras 3. Transpose the input with a Permute "
    "layer and save the model again with time_major=False",
    "ragged": "Keras 3 has no ragged inputs",
    "dynamic": "a dynamic layer runs Python code that is not in the file",
    "virtual_batch_size": "Keras 3 has no virtual batches",
    "renorm": "Keras 3 keeps the state of batch renormalisation otherwise",
}


def _plain_numbers(config: Config) -> None:
    # Keras 2.0 and 2.1 stored slopes as arrays of one number.
    for key in _SLOPES:
        value = config.get(key)
        if isinstance(value, dict) and "value" in value:
            config[key] = value["value"]


def _policy(name: str, config: Config, notes: Notes) -> None:
    dtype = config.get("dtype")
    if not isinstance(dtype, dict):
        return
    inner = dtype.get("config")
    policy = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(policy, str):
        raise refuse(name, f"its dtype policy {dtype.get('class_name')!r} is not understood")
    config["dtype"] = policy
    notes.mend(name, f"dtype policy written as {policy!r}", "Keras 3 writes policies otherwise")


def _initializer(name: str, value: Any, notes: Notes) -> Any:
    """Initialisers do not matter to a trained model; one that Keras 3 refuses must not stop it."""
    if not isinstance(value, dict):
        return value
    class_name, config = str(value.get("class_name")), value.get("config") or {}
    if not isinstance(config, dict):
        config = {}
    if "dtype" in config:
        notes.mend(name, "dtype removed from initialisers", "Keras 3 refuses it there")
    known = _INITIALIZERS.get(class_name)
    if known is None:
        notes.mend(
            name,
            f"initialiser {class_name!r} replaced by 'zeros'",
            "Keras 3 does not bring it along, and it does not matter to a trained model",
        )
        class_name, config, known = "Zeros", {}, ()
    kept = {key: config[key] for key in known if key in config}
    if kept.get("distribution") == "normal":
        kept["distribution"] = "truncated_normal"
    return _serialized("keras.initializers", class_name, kept)


def _keras_object(value: Any) -> Any:
    if not isinstance(value, dict) or "module" in value:
        return _without_sharing(value)
    config = value.get("config")
    return {"class_name": value.get("class_name"), "config": config}


def _without_sharing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key != "shared_object_id"}
    return value


def _serialized(module: str, class_name: str, config: Config) -> Config:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


def _activation(name: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if isinstance(value, dict):
        raise refuse(
            name,
            f"its activation is a layer, {value.get('class_name')!r}. "
            "Make that a layer of its own and save the model again",
        )
    if isinstance(value, str) and value not in ACTIVATIONS:
        raise refuse(
            name,
            f"its activation {value!r} is not one of Keras, and its code is not in the file. "
            "Replace it by a built-in one",
        )
    return value


def _by_class(class_name: str, name: str, config: Config, notes: Notes) -> None:
    if class_name in ("BatchNormalization", "LayerNormalization", "Normalization"):
        _single_axis(class_name, name, config, notes)
    elif class_name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
        notes.mend(name, "alpha renamed to negative_slope", "Keras 3 renamed the setting")
    elif class_name == "GRU" and "reset_after" not in config:
        config["reset_after"] = False
        notes.mend(name, "reset_after=False made explicit", "the default is True in Keras 3")
    elif class_name == "GRUCell" and "reset_after" not in config:
        config["reset_after"] = False
    elif class_name == "InputLayer" and config.get("sparse"):
        raise refuse(name, "sparse inputs are not supported")
    elif class_name == "Resizing" and config.get("interpolation") not in (
        *_INTERPOLATIONS,
        None,
    ):
        raise refuse(name, f"Keras 3 has no interpolation {config['interpolation']!r}")


def _single_axis(class_name: str, name: str, config: Config, notes: Notes) -> None:
    axis = config.get("axis")
    if not isinstance(axis, list) or class_name != "BatchNormalization":
        return
    if len(axis) != 1:
        raise refuse(name, f"Keras 3 normalises along one axis, not along {axis}")
    config["axis"] = axis[0]
    notes.mend(
        name,
        "axis written as a number",
        "Keras 3 takes a number where Keras 2 wrote a list",
    )
