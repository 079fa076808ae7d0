"""What all backbones are built of: sizes, and KerasHub's classes by name."""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """Of a backbone: powers of two."""

    layers: int = 4
    heads: int = 8
    width: int = 256
    inner: int = 1024
    """Width inside feed-forward blocks."""
    vocabulary: int = 1024
    length: int = 128
    """Tokens at most."""
    image: int = 64
    patch: int = 8


MODERATE = Size()
TINY = Size(layers=2, heads=4, width=16, inner=32, vocabulary=64, length=40, image=16, patch=4)


def hub(name: str) -> Any:
    """One of KerasHub's models; the package is imported only now."""
    return getattr(importlib.import_module("keras_hub").models, name)


def blocks(size: Size) -> dict[str, int]:
    """Settings of a stack of transformer blocks."""
    return {
        "num_layers": size.layers,
        "num_heads": size.heads,
        "hidden_dim": size.width,
        "intermediate_dim": size.inner,
    }
