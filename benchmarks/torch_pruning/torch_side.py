"""Torch-Pruning's side, for one network: prune half of the channels, export, print JSON.

Runs in `.venv-torch`: `python -m benchmarks.torch_pruning.torch_side NAME FOLDER`. The ONNX files
go into FOLDER. Whatever fails is recorded with its message.
"""

import argparse
import copy
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp

from benchmarks.torch_pruning.networks import VARIANTS, network
from benchmarks.torch_pruning.torch_counting import macs
from benchmarks.torch_pruning.torch_models import build, classifier, heads
from benchmarks.torch_pruning.torch_proof import Removed
from benchmarks.torch_pruning.trying import Failed, attempt, same_cut, timed

TOLERANCE = 1e-4
"""Of the largest output: up to here two models compute the same. Secateur's own bound."""


def figures(model: torch.nn.Module, sample: torch.Tensor) -> dict[str, Any]:
    """MACs of the kernels, operations as Torch-Pruning counts them, and parameters."""
    operations, _ = tp.utils.count_ops_and_params(model, sample)
    return {
        "macs": macs(model, sample),
        "operations": int(operations),
        "parameters": sum(each.numel() for each in model.parameters()),
    }


def export(model: torch.nn.Module, sample: torch.Tensor, path: Path) -> dict[str, Any]:
    """Write ONNX with torch's exporter by tracing, and where it fails with the newer one.

    Raises:
        Failed: neither can.
    """

    def write(dynamo: bool) -> None:
        torch.onnx.export(
            model.eval(), (sample,), path, dynamo=dynamo, external_data=False, verbose=False
        )

    try:
        attempt("export by tracing", lambda: write(False))
    except Failed:
        attempt("export", lambda: write(True))
        return {"onnx": str(path), "exporter": "torch.export"}
    return {"onnx": str(path), "exporter": "tracing"}


def analysis_seconds(model: torch.nn.Module, sample: torch.Tensor) -> float | None:
    """How long it takes to find what belongs together; None where that fails."""

    def groups(it: torch.nn.Module) -> int:
        graph = tp.DependencyGraph().build_dependency(it, sample)
        return len(list(graph.get_all_groups(ignored_layers=[classifier(it)])))

    try:
        return attempt("analysis", lambda: timed(lambda: copy.deepcopy(model), groups))[1]
    except Failed:
        return None


def prune(
    model: torch.nn.Module, sample: torch.Tensor, round_to: int | None, told: bool
) -> tuple[torch.nn.Module, Removed]:
    """Prune half of the channels of a model, in place, and say what it no longer reads.

    What a user writes is the pruner and `step()`; groups are taken one by one to note them.
    """
    pruner = tp.pruner.MagnitudePruner(
        model,
        sample,
        importance=tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[classifier(model)],
        round_to=round_to,
        num_heads=heads(model) if told else {},
    )
    removed = Removed(model, pruner.DG)
    for group in pruner.step(interactive=True):
        removed.note(group)
        group.prune()
    return model, removed


def variant(
    original: torch.nn.Module,
    sample: torch.Tensor,
    round_to: int | None,
    told: bool,
    path: Path,
    earlier: Iterable[dict[str, Any]],
) -> dict[str, Any]:
    """Prune, run, compare with the silenced original, export; up to the first failure."""
    found: dict[str, Any] = {}
    try:
        (model, removed), found["seconds"] = attempt(
            "pruning",
            lambda: timed(
                lambda: copy.deepcopy(original), lambda it: prune(it, sample, round_to, told)
            ),
        )
        found |= attempt("forward after pruning", lambda: figures(model, sample))
        if found["macs"] >= macs(original, sample):
            raise Failed("nothing was pruned")
        if same := same_cut(found, earlier):
            return found | same
        found["difference"] = attempt(
            "comparison", lambda: removed.difference(original, model, sample)
        )
        found["exact"] = found["difference"] <= TOLERANCE
        found |= export(model, sample, path)
    except Failed as failure:
        found["error"] = str(failure)
    return found


def main() -> None:
    """Do one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    original, sample = build(arguments.name)
    before = figures(original, sample)
    before |= export(original, sample, arguments.folder / "torch.onnx")
    before["analysis_seconds"] = analysis_seconds(original, sample)
    told = network(arguments.name).heads_told
    variants: dict[str, dict[str, Any]] = {}
    for name, round_to in VARIANTS.items():
        path = arguments.folder / f"torch-{name}.onnx"
        variants[name] = variant(original, sample, round_to, told, path, list(variants.values()))
    print(json.dumps({"before": before, "variants": variants}))


if __name__ == "__main__":
    main()
