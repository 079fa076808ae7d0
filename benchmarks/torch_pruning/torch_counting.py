"""Multiply-accumulates of a torch model, by the definition of Secateur's `engine.count`.

`tp.utils.count_ops_and_params` also counts biases, normalisation and activations, which do not
shrink as kernels do; shares could not be compared with it.
"""

import math
from typing import Any

import torch
from torch import nn

from benchmarks.torch_pruning.torch_attention import Attention


def macs(model: nn.Module, sample: torch.Tensor) -> int:
    """Each kernel entry once per output position, and both products of attention; a batch of 1."""
    total = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += _work(module, inputs[0], output)

    kinds = (nn.Linear, nn.Conv2d, nn.LSTM, Attention)
    hooks = [each.register_forward_hook(add) for each in model.modules() if isinstance(each, kinds)]
    try:
        with torch.no_grad():
            model(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _work(module: Any, before: torch.Tensor, after: Any) -> int:
    if isinstance(module, nn.LSTM):
        weights = module.weight_ih_l0.numel() + module.weight_hh_l0.numel()
        return int(weights * math.prod(before.shape[:-1]))
    if isinstance(module, Attention):
        tokens, width = before.shape[1], module.project.in_features
        return 2 * tokens * tokens * width
    positions = after.shape[:-1] if isinstance(module, nn.Linear) else after.shape[2:]
    return int(module.weight.numel() * math.prod(positions))
