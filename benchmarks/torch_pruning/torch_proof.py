"""Whether a model that Torch-Pruning made computes what the original does without the channels.

As in Secateur's `engine.prove`: in the original, the kernel rows that read removed channels are
zeroed; then both must give the same outputs on random probes. (A normalisation over channels
computes other statistics when channels are gone, so such a cut is never exact.)
"""

import copy
from typing import Any

import torch
from torch import nn

PROBES = 4


class Removed:
    """The channels that each layer's kernel no longer reads, noted while a pruner goes on."""

    def __init__(self, model: nn.Module, graph: Any) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._graph = graph
        self._notes: list[tuple[str, list[int]]] = []

    def note(self, group: Any) -> None:
        """Remember a group that is about to be pruned; its indices are those of the moment."""
        for dependency, indices in group:
            module = dependency.target.module
            if _reads(module) and self._graph.is_in_channel_pruning_fn(dependency.handler):
                self._notes.append((self._names[module], list(indices)))

    def difference(self, original: nn.Module, pruned: nn.Module, sample: torch.Tensor) -> float:
        """Largest difference of the outputs, as a fraction of the largest output."""
        silenced = copy.deepcopy(original).eval()
        modules = dict(silenced.named_modules())
        probes = torch.randn(PROBES, *sample.shape[1:])
        alive: dict[str, list[int]] = {}
        with torch.no_grad():
            for name, indices in self._notes:
                left = alive.setdefault(name, list(range(_reads(modules[name]))))
                dead = {left[index] for index in indices}
                alive[name] = [index for index in left if index not in dead]
                _silence(modules[name], sorted(dead))
            expected, received = silenced(probes), pruned(probes)
        scale = float(expected.abs().max())
        distance = float((expected - received).abs().max())
        return distance / scale if scale else float(distance > 0)


def _reads(module: Any) -> int:
    """Channels that a kernel mixes; 0 where there is none."""
    if isinstance(module, nn.LSTM):
        return int(module.input_size)
    if isinstance(module, nn.Linear):
        return int(module.in_features)
    if isinstance(module, nn.Conv2d) and not 1 < module.groups == module.in_channels:
        return int(module.in_channels)
    return 0


def _silence(module: Any, dead: list[int]) -> None:
    if isinstance(module, nn.LSTM):
        module.weight_ih_l0[:, dead] = 0
        return
    if isinstance(module, nn.Linear) or module.groups == 1:
        module.weight[:, dead] = 0
        return
    reads, makes = (size // module.groups for size in (module.in_channels, module.out_channels))
    for index in dead:
        group = index // reads
        module.weight[group * makes : (group + 1) * makes, index % reads] = 0
