"""Layers of KerasHub that hold weights themselves, by stock layers.

Found by the name of their class, so that KerasHub need not be there. Each gives what the layer
gives; the whole model is compared afterwards all the same.
"""

import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras.src.applications.convnext import LayerScale

from workers.engine import graph
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
    positions = builder.positions(x, x.shape[1])
    return builder.rows(layer, layer.position_embeddings, path, positions)


def token_and_position(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """The sum of both embeddings."""
    ids = _bound(layer, args, kwargs, {"inputs"})["inputs"]
    tokens = builder.call(layer.token_embedding, f"{path}_token_embedding", [ids], {})
    inner = layer.position_embedding
    places = _positioned(builder, inner, f"{path}_position_embedding", tokens)
    add = builder.fresh(layer, "sum", lambda name: layers.Add(name=name), f"{path}_add")
    return add([tokens, places])


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
        builder.weight(layer, getattr(layer, variable), twin, twin.scale, offset)
        return found

    return expand


def gemma_norm(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Gemma and Gemma 3 store the scale less one; another class of the same name does not."""
    if not re.search(r"\.models\.gemma3?\.", type(layer).__module__):
        raise CannotInline("it has weights of its own")
    return root_mean_square(1.0, "scale")(builder, layer, path, args, kwargs)


def layer_scale(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """One factor per channel."""
    size = int(layer.lambda1.shape[0])
    twin = builder.fresh(layer, "scale", lambda name: LayerScale(1.0, size, name=name), path)
    found = twin(args[0])
    builder.weight(layer, layer.lambda1, twin, twin.gamma)
    return found


def drop_path(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Whole samples are dropped while training, and the others scaled up: Dropout by samples."""
    x, rate = args[0], float(layer.rate)
    if rate == 0.0:
        return x
    if type(layer).__name__ != "DropPath":
        raise CannotInline("it drops paths in a way of its own")
    noise = (None, *[1] * (len(x.shape) - 1))

    def make(name: str) -> Any:
        return layers.Dropout(rate, noise_shape=noise, name=name)

    return builder.fresh(layer, "drop", make, path)(x)


def whisper_attention(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Keys have no bias. With one, scores would shift alike for all keys, which softmax ignores:
    Keras' own layer with a bias of zeros computes the same.
    """
    given = _bound(layer, args, kwargs, {"query", "value", "key", "attention_mask"})

    def make(name: str) -> Any:
        config = layer.get_config() | {"name": name}
        return layers.MultiHeadAttention.from_config(config)

    twin = builder.fresh(layer, "attention", make, path)
    found = twin(**{name: value for name, value in given.items() if value is not None})
    for role in ("query", "key", "value", "output"):
        mine, other = (getattr(each, f"_{role}_dense") for each in (layer, twin))
        for source, target in zip(mine.weights, other.weights[: len(mine.weights)], strict=True):
            builder.weight(layer, source, twin, target)
    return found


def patches(tokens: tuple[str, ...] = ()) -> Expansion:
    """A convolution's patches in a row, behind learnt tokens, plus a row per position."""

    def expand(
        builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        if getattr(layer, "use_mask_token", False):
            raise CannotInline("it has a mask token")
        images = _bound(layer, args, kwargs, {"inputs"})["inputs"]
        x = builder.call(layer.patch_embedding, f"{path}_patch_embedding", [images], {})
        if layer.data_format == "channels_first":
            x = layers.Permute((2, 3, 1), name=builder.take(f"{path}_permute"))(x)
        _, height, width, size = x.shape
        x = layers.Reshape((height * width, size), name=builder.take(f"{path}_patches"))(x)
        held = [getattr(layer, name) for name in tokens if getattr(layer, f"use_{name}", True)]
        rows = [
            builder.rows(layer, token, f"{path}_{token.name}", builder.positions(x, 1))
            for token in held
        ]
        if rows:
            x = layers.Concatenate(axis=1, name=builder.take(f"{path}_concatenate"))([*rows, x])
        x = layers.Add(name=builder.take(f"{path}_add"))([x, _places(builder, layer, path, x)])
        dropout = getattr(layer, "dropout", None)
        return x if dropout is None else builder.call(dropout, f"{path}_dropout", [x], {})

    return expand


def dinov2_embedding(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Patches behind a class token plus a row per position; registers go behind the first.

    Positions are those interpolated for the model's images; the ones they come from, and the mask
    token, are for training on other images.
    """
    images = _bound(layer, args, kwargs, {"inputs"})["inputs"]
    x = builder.call(layer.patch_embeddings, f"{path}_patches", [images], {})
    token = builder.rows(layer, layer.cls_token, f"{path}_cls_token", builder.positions(x, 1))
    x = layers.Concatenate(axis=1, name=builder.take(f"{path}_concatenate"))([token, x])
    table, places = layer.interpolated_position_embeddings, builder.positions(x, x.shape[1])
    rows = builder.rows(layer, table, f"{path}_position_embeddings", places)
    x = layers.Add(name=builder.take(f"{path}_add"))([x, rows])
    if layer.num_register_tokens:
        count = builder.positions(x, layer.num_register_tokens)
        more = builder.rows(layer, layer.register_tokens, f"{path}_register_tokens", count)
        size = int(x.shape[1])
        first = layers.Cropping1D((0, size - 1), name=builder.take(f"{path}_first"))(x)
        rest = layers.Cropping1D((1, 0), name=builder.take(f"{path}_rest"))(x)
        x = layers.Concatenate(axis=1, name=builder.take(f"{path}_registers"))([first, more, rest])
    return builder.call(layer.dropout, f"{path}_dropout", [x], {})


def relative_embedding(
    builder: Builder, layer: Any, path: str, args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """DeBERTa's table of relative positions, normalised, for each sample."""
    table = layer.rel_embeddings
    positions = builder.positions(args[0], int(table.shape[0]))
    rows = builder.rows(layer, table, f"{path}_table", positions)
    return builder.call(layer.layer_norm, f"{path}_layer_norm", [rows], {})


def _places(builder: Builder, layer: Any, path: str, x: Any) -> Any:
    held, name = layer.position_embedding, f"{path}_position_embedding"
    positions = builder.positions(x, x.shape[1])
    if isinstance(held, keras.Variable):
        return builder.rows(layer, held, name, positions)
    given = np.ravel(graph.values(layer.position_ids))
    if not np.array_equal(given, np.arange(x.shape[1])):
        raise CannotInline("its position_ids are not 0, 1, …")
    return builder.call(held, name, [positions], {})


EXPANSIONS: Mapping[str, Expansion] = MappingProxyType(
    {
        "CachedMultiHeadAttention": attention,
        "ReversibleEmbedding": reversible_embedding,
        "PositionEmbedding": position_embedding,
        "TokenAndPositionEmbedding": token_and_position,
        "LlamaLayerNorm": root_mean_square(0.0, "scale"),
        "MistralLayerNormalization": root_mean_square(0.0, "scale"),
        "QwenLayerNorm": root_mean_square(0.0, "scale"),
        "Qwen3LayerNorm": root_mean_square(0.0, "scale"),
        "MixtralLayerNormalization": root_mean_square(0.0, "scale"),
        "RoformerNorm": root_mean_square(0.0, "scale"),
        "Phi3LayerNorm": root_mean_square(0.0, "scale"),
        "T5LayerNorm": root_mean_square(0.0, "weight"),
        "DropPath": drop_path,
        "DINOV2DropPath": drop_path,
        "DINOV2LayerScale": layer_scale,
        "DINOV2Embedding": dinov2_embedding,
        "RMSNormalization": gemma_norm,
        "RelativeEmbedding": relative_embedding,
        "WhisperCachedMultiHeadAttention": whisper_attention,
        "ViTPatchingAndEmbedding": patches(("class_token",)),
        "DeiTEmbeddings": patches(("class_token", "distillation_token")),
        "CLIPVisionEmbedding": patches(("class_embedding",)),
        "SigLIPVisionEmbedding": patches(),
    }
)
"""By the name of the class, for layers whose code comes with KerasHub."""
