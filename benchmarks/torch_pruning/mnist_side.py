"""Torch-Pruning's side on MNIST: prune a trained LeNet-5, fine-tune it, export, print JSON.

Runs in `.venv-torch`: `python -m benchmarks.torch_pruning.mnist_side WEIGHTS DATA FOLDER
--keep 0.17 --epochs 10`. WEIGHTS are those of the Keras network, in its order, so both sides start
from the same one. What is done is what its README tells to do: `MagnitudePruner`, then train on.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp

from benchmarks.torch_pruning.torch_counting import macs

BATCH = 128
RATE = 1e-3
HELD_OUT = 6000
"""Training digits that are set aside, as Secateur does."""


class LeNet5(torch.nn.Module):
    """Convolutions of 20 and 50 filters, a Dense layer of 500, as in benchmarks.fit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 20, 5)
        self.second = torch.nn.Conv2d(20, 50, 5)
        self.third = torch.nn.Linear(800, 500)
        self.last = torch.nn.Linear(500, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(samples, 1, 28, 28) -> logits."""
        for layer in (self.first, self.second):
            x = torch.nn.functional.max_pool2d(torch.relu(layer(x)), 2)
        return self.last(torch.relu(self.third(x.flatten(1))))


def loaded(path: Path) -> LeNet5:
    """The network with Keras' weights: kernels (height, width, in, out), rows of inputs."""
    with np.load(path, allow_pickle=False) as file:
        values = [torch.from_numpy(file[f"w{place}"]) for place in range(8)]
    model = LeNet5()
    # Keras flattens (height, width, channels), torch (channels, height, width).
    rows = values[4].reshape(4, 4, 50, 500).permute(2, 0, 1, 3).reshape(800, 500)
    kernels = [values[0].permute(3, 2, 0, 1), values[2].permute(3, 2, 0, 1), rows.T, values[6].T]
    layers = (model.first, model.second, model.third, model.last)
    with torch.no_grad():
        for layer, kernel, bias in zip(layers, kernels, values[1::2], strict=True):
            layer.weight.copy_(kernel)
            layer.bias.copy_(bias)
    return model


def digits(path: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] and labels."""
    with np.load(path, allow_pickle=False) as file:
        images = torch.from_numpy(file[f"x_{split}"].reshape(-1, 1, 28, 28)).float() / 255.0
        return images, torch.from_numpy(file[f"y_{split}"].astype("int64"))


def accuracy(model: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Of the whole split."""
    model.eval()
    with torch.no_grad():
        guessed = torch.cat([model(part).argmax(1) for part in data[0].split(1000)])
    return float((guessed == data[1]).float().mean())


def pruned(path: Path, sample: torch.Tensor, keep: float) -> torch.nn.Module:
    """The smallest uniform ratio that leaves at most so many of the MACs."""
    whole = macs(loaded(path), sample)
    for step in range(1, 100):
        model = loaded(path)
        tp.pruner.MagnitudePruner(
            model,
            sample,
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=step / 100,
            ignored_layers=[model.last],
        ).step()
        if macs(model, sample) <= keep * whole:
            return model
    raise SystemExit(f"no ratio leaves {keep:.0%} of the MACs")


def train(model: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor], epochs: int) -> None:
    """Adam at a constant rate, on what is not held out; the last weights stay."""
    x, y = (part[:-HELD_OUT] for part in data)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()


def main() -> None:
    """Prune, train, export, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    asked = parser.parse_args()
    torch.manual_seed(0)
    sample = torch.zeros(1, 1, 28, 28)
    test = digits(asked.data, "test")
    original = loaded(asked.weights)
    found: dict[str, Any] = {
        "macs_before": macs(original, sample),
        "accuracy_before": accuracy(original, test),
    }
    started = time.perf_counter()
    model = pruned(asked.weights, sample, asked.keep)
    train(model, digits(asked.data, "train"), asked.epochs)
    found["minutes"] = (time.perf_counter() - started) / 60.0
    file = asked.folder / "torch_lenet_5.onnx"
    with torch.no_grad():
        torch.onnx.export(model.eval(), (sample,), file, dynamo=False, external_data=False)
    found |= {
        "macs": macs(model, sample),
        "parameters": sum(each.numel() for each in model.parameters()),
        "accuracy": accuracy(model, test),
        "onnx": str(file),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
