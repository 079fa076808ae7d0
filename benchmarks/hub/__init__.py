"""KerasHub's backbones with random weights, in any size.

`python -m benchmarks.coverage --hub` prunes them all in moderate sizes;
tests/workers/engine/test_hub.py some of them in tiny ones. Needs `keras-hub`, which is imported
only when a backbone is built.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.hub.base import MODERATE, TINY, Size
from benchmarks.hub.images import IMAGES
from benchmarks.hub.text import TEXT

BACKBONES: Mapping[str, Callable[[Size], Any]] = MappingProxyType({**TEXT, **IMAGES})


def backbone(name: str, size: Size) -> Any:
    """A backbone by its name here, with random weights of a size that lets inputs through.

    KerasHub starts with kernels of 0.02, of which little reaches the outputs of a small model.
    """
    model = BACKBONES[name](size)
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "float" not in str(variable.dtype):
            continue
        if any(word in variable.name for word in ("gamma", "variance", "scale")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif any(word in variable.name for word in ("mean", "beta", "bias")):
            variable.assign(random.normal(0.0, 0.1, variable.shape))
        elif len(variable.shape) > 1:
            readers = 4 if "embedding" in variable.path else math.prod(variable.shape[:-1])
            variable.assign(random.normal(0.0, readers**-0.5, variable.shape))
    return model


__all__ = ["BACKBONES", "MODERATE", "TINY", "Size", "backbone"]
