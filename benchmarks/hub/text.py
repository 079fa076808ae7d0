"""Backbones for text and speech."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from benchmarks.hub.base import Size, blocks, hub


def _encoder(name: str, size: Size, **more: Any) -> Any:
    words = {"vocabulary_size": size.vocabulary, "max_sequence_length": size.length}
    return hub(name)(**words, **blocks(size), **more)


def _grouped(name: str, size: Size, **more: Any) -> Any:
    """Language models of today: two query heads for each of keys and values."""
    found = blocks(size)
    heads = {"num_query_heads": found.pop("num_heads"), "num_key_value_heads": size.heads // 2}
    return hub(name)(vocabulary_size=size.vocabulary, **found, **heads, **more)


def _wide_heads(name: str, size: Size, **more: Any) -> Any:
    """Those whose heads have a width of their own."""
    return _grouped(name, size, head_dim=size.width // size.heads, **more)


def _electra(size: Size) -> Any:
    words = {"vocab_size": size.vocabulary, "max_sequence_length": size.length}
    return hub("ElectraBackbone")(**words, **blocks(size), embedding_dim=size.width // 2)


def _albert(size: Size) -> Any:
    return _encoder("AlbertBackbone", size, embedding_dim=size.width // 2)


def _fnet(size: Size) -> Any:
    found = blocks(size)
    del found["num_heads"]
    words = {"vocabulary_size": size.vocabulary, "max_sequence_length": size.length}
    return hub("FNetBackbone")(**words, **found)


def _roformer(size: Size) -> Any:
    head = size.width // size.heads
    return hub("RoformerV2Backbone")(
        vocabulary_size=size.vocabulary, **blocks(size), head_size=head
    )


def _gpt_neo_x(size: Size) -> Any:
    return _encoder("GPTNeoXBackbone", size, rotary_percentage=0.5)


def _falcon(size: Size) -> Any:
    found = blocks(size)
    heads = found.pop("num_heads")
    return hub("FalconBackbone")(
        vocabulary_size=size.vocabulary, num_attention_heads=heads, **found
    )


def _unlimited(name: str, size: Size, **more: Any) -> Any:
    return hub(name)(vocabulary_size=size.vocabulary, **blocks(size), **more)


def _smol(size: Size) -> Any:
    return hub("SmolLM3Backbone")(
        vocabulary_size=size.vocabulary,
        hidden_dim=size.width,
        intermediate_dim=size.inner,
        num_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads // 2,
        attention_bias=False,
        attention_dropout=0.0,
        rope_layer_enabled_list=[True] * size.layers,
        layer_types=["full_attention"] * size.layers,
        mlp_bias=False,
        layer_norm_epsilon=1e-6,
        max_position_embeddings=size.length,
        rope_theta=10000.0,
        partial_rotary_factor=1.0,
    )


def _whisper(size: Size) -> Any:
    return hub("WhisperBackbone")(
        vocabulary_size=size.vocabulary,
        **blocks(size),
        num_mels=8,
        max_encoder_sequence_length=2 * size.length,
        max_decoder_sequence_length=size.length,
    )


TEXT: Mapping[str, Callable[[Size], Any]] = MappingProxyType(
    {
        "BERT": partial(_encoder, "BertBackbone"),
        "RoBERTa": partial(_encoder, "RobertaBackbone"),
        "XLM-RoBERTa": partial(_encoder, "XLMRobertaBackbone"),
        "DistilBERT": partial(_encoder, "DistilBertBackbone"),
        "ELECTRA": _electra,
        "ALBERT": _albert,
        "DeBERTaV3": partial(_encoder, "DebertaV3Backbone", bucket_size=8),
        "ESM": partial(_encoder, "ESMBackbone"),
        "RoFormerV2": _roformer,
        "XLNet": partial(_unlimited, "XLNetBackbone"),
        "FNet": _fnet,
        "GPT2": partial(_encoder, "GPT2Backbone"),
        "GPTNeoX": _gpt_neo_x,
        "OPT": partial(_encoder, "OPTBackbone"),
        "BLOOM": partial(_unlimited, "BloomBackbone"),
        "Falcon": _falcon,
        "Llama": partial(_grouped, "LlamaBackbone"),
        "Llama3": partial(_grouped, "Llama3Backbone"),
        "Mistral": partial(_grouped, "MistralBackbone", sliding_window=16),
        "Mixtral": partial(_grouped, "MixtralBackbone", num_experts=4),
        "Gemma": partial(_wide_heads, "GemmaBackbone"),
        "Gemma3": partial(_wide_heads, "Gemma3Backbone", image_size=16),
        "Qwen": partial(_grouped, "QwenBackbone"),
        "Qwen3": partial(_wide_heads, "Qwen3Backbone", sliding_window_size=None),
        "Phi3": partial(_grouped, "Phi3Backbone"),
        "SmolLM3": _smol,
        "BART": partial(_encoder, "BartBackbone"),
        "T5": partial(_unlimited, "T5Backbone"),
        "Whisper": _whisper,
    }
)
