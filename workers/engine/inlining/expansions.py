"""Layers of KerasHub that hold weights themselves, by stock layers.

Found by the name of their class, so that KerasHub need not be there. Each gives what the layer
gives; the whole model is compared afterwards all the same.
"""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from workers.engine.inlining.builder import Builder, Expansion
from workers.engine.inlining.trace import CannotInline

layers = keras.layers


def _bound(layer: Any, args: list[Any], kwargs: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Arguments of a call by name, if all that differ from their defaults are understood."""
    signature = inspect.signature(layer.call)
    given = dict(signature.bind(*args, **kwargs).arguments)
    for name, value in list(given.items()):
        default = signature.parameters[name].default
        if name not in known:
            if value is not None and value != default:
                raise CannotInline(f"it is called with {name}")
            del given[name]
    return given


def attention(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """CachedMultiHeadAttention without a cache is Keras' own layer."""
    known = {"query", "value", "key", "attention_mask", "return_attention_scores"}
    given = _bound(layer, args, kwargs, known)
    twin = builder.stock(layer, path, layers.MultiHeadAttention)
    return twin(**{name: value for name, value in given.items() if value is not None})


def reversible_embedding(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """KerasHub's class adds nothing to Keras' own."""
    return builder.stock(layer, path, layers.ReversibleEmbedding)(*args, **kwargs)


def position_embedding(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Rows of a table by position: an Embedding of the positions."""
    x = _bound(layer, args, kwargs, {"inputs"})["inputs"]
    if len(x.shape) != 3:
        raise CannotInline("its input has not three axes")
    return _positioned(builder, layer, path, x)


def _positioned(builder: Builder, layer: Any, path: str, x: Any) -> Any:
    table = layer.position_embeddings
    rows, dimensions = (int(size) for size in table.shape)
    embedding = builder.fresh(
        layer,
        "table",
        lambda name: layers.Embedding(rows, dimensions, dtype=layer.dtype_policy, name=name),
        path,
    )
    positions = builder.positions(x, x.shape[1])
    found = embedding(positions)
    builder.weight(table, embedding.embeddings)
    embedding.trainable = layer.trainable
    return found


def token_and_position(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """The sum of both embeddings."""
    ids = _bound(layer, args, kwargs, {"inputs"})["inputs"]
    tokens = builder.call(layer.token_embedding, f"{path}_token_embedding", [ids], {})
    inner = layer.position_embedding
    places = _positioned(builder, inner, f"{path}_position_embedding", tokens)
    add = builder.fresh(layer, "sum", lambda name: layers.Add(name=name), f"{path}_add")
    found = add([tokens, places])
    mask = getattr(tokens, "_keras_mask", None)
    if mask is not None:
        found._keras_mask = mask
    return found


def root_mean_square(offset: float, variable: str) -> Expansion:
    """x / sqrt(mean(x²) + epsilon) times a scale, which is stored less `offset`."""

    def expand(
        builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        def make(name: str) -> Any:
            policy = layer.dtype_policy
            return layers.RMSNormalization(epsilon=layer.epsilon, dtype=policy, name=name)

        twin = builder.fresh(layer, "norm", make, path)
        found = twin(args[0] if args else next(iter(kwargs.values())))
        builder.weight(getattr(layer, variable), twin.scale, plus=offset)
        twin.trainable = layer.trainable
        return found

    return expand


def drop_path(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Whole samples are dropped while training, and the others scaled up: Dropout by samples."""
    x = args[0]
    noise = (None, *[1] * (len(x.shape) - 1))
    rate = float(getattr(layer, "rate", getattr(layer, "drop_prob", 0.0)))
    if rate == 0.0:
        return x
    make = builder.fresh(
        layer, "drop", lambda name: layers.Dropout(rate, noise_shape=noise, name=name), path
    )
    return make(x)


def vit_embedding(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """A convolution's patches in a row, behind a class token, plus a row per position."""
    x = builder.call(layer.patch_embedding, f"{path}_patch_embedding", args, kwargs)
    if layer.data_format == "channels_first":
        x = layers.Permute((2, 3, 1))(x)
    flat = builder.fresh(
        layer,
        "patches",
        lambda name: layers.Reshape((layer.num_patches, layer.hidden_dim), name=name),
        f"{path}_patches",
    )
    x = flat(x)
    if layer.use_class_token:
        token = builder.fresh(
            layer,
            "token",
            lambda name: layers.Embedding(
                1, layer.hidden_dim, dtype=layer.dtype_policy, name=name
            ),
            f"{path}_class_token",
        )
        first = token(builder.positions(x, 1))
        builder.weight(layer.class_token, token.embeddings)
        token.trainable = layer.trainable
        join = layers.Concatenate(axis=1, name=f"{path}_concatenate")
        x = join([first, x])
    places = builder.call(
        layer.position_embedding,
        f"{path}_position_embedding",
        [builder.positions(x, layer.num_positions)],
        {},
    )
    return layers.Add(name=f"{path}_add")([x, places])


EXPANSIONS: Mapping[str, Expansion] = MappingProxyType(
    {
        "CachedMultiHeadAttention": attention,
        "ReversibleEmbedding": reversible_embedding,
        "PositionEmbedding": position_embedding,
        "TokenAndPositionEmbedding": token_and_position,
        "LlamaLayerNorm": root_mean_square(0.0, "scale"),
        "MistralLayerNormalization": root_mean_square(0.0, "scale"),
        "QwenLayerNorm": root_mean_square(0.0, "scale"),
        "Phi3LayerNorm": root_mean_square(0.0, "scale"),
        "T5LayerNorm": root_mean_square(0.0, "weight"),
        "DropPath": drop_path,
        "DINOV2DropPath": drop_path,
        "ViTPatchingAndEmbedding": vit_embedding,
    }
)
"""By the name of the class, for layers whose code comes with KerasHub."""
