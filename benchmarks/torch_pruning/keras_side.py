"""Secateur's side, for one network: prune to given MACs, prove, export, print JSON.

Runs in the project's environment: `python -m benchmarks.torch_pruning.keras_side NAME FOLDER
KEEPS`, where KEEPS is JSON, by variant the share of MACs that the other side kept, or null where
it has none: then half of the channels go. Whatever fails is recorded with its message.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from benchmarks.torch_pruning.keras_models import build
from benchmarks.torch_pruning.networks import VARIANTS
from benchmarks.torch_pruning.trying import Failed, attempt, same_cut, timed
from workers import engine
from workers.exports import formats


def figures(model: Any) -> dict[str, Any]:
    """MACs of the kernels, and parameters."""
    counts = engine.count(model)
    return {"macs": counts.macs, "parameters": counts.parameters}


def export(model: Any, folder: Path) -> dict[str, Any]:
    """Write ONNX, as a job does.

    Raises:
        Failed: it cannot be written.
    """
    folder.mkdir()
    path = attempt("export", lambda: formats.write(model, "onnx", folder))
    return {"onnx": str(path)}


def request(keep: float | None, round_to: int | None) -> Prune:
    """What a user would ask for: `keep` of the MACs, or half of the channels."""
    half = {"kind": "fraction", "remove": 0.5}
    target = half if keep is None else {"kind": "macs", "keep": keep}
    return Prune.model_validate({"target": target, "round_to": round_to, "scope": "latency"})


def prune(model: Any, keep: float | None, round_to: int | None) -> tuple[Any, Any, str]:
    """The smaller model, its cut, and what must be said about it."""
    note = ""
    try:
        cut = engine.choose(model, request(keep, round_to))
    except EngineRefusal as refusal:
        if keep is None:
            raise
        note = f"{refusal} Half of the channels were removed instead."
        cut = engine.choose(model, request(None, round_to))
    return engine.apply(model, cut), cut, note


def variant(
    model: Any,
    keep: float | None,
    round_to: int | None,
    folder: Path,
    earlier: Iterable[dict[str, Any]],
) -> dict[str, Any]:
    """Prune, prove, export; up to the first failure."""
    found: dict[str, Any] = {}
    try:
        (reduced, cut, note), found["seconds"] = attempt(
            "pruning", lambda: timed(lambda: model, lambda it: prune(it, keep, round_to))
        )
        found |= {"note": note} if note else {}
        found |= figures(reduced)
        if found["macs"] >= engine.count(model).macs:
            raise Failed("nothing was pruned")
        if same := same_cut(found, earlier):
            return found | same
        start = time.perf_counter()
        equality = attempt("proof", lambda: engine.prove(model, reduced, cut))
        found["proof_seconds"] = time.perf_counter() - start
        found |= {"difference": equality.relative, "exact": equality.holds}
        found |= export(reduced, folder)
    except Failed as failure:
        found["error"] = str(failure)
    return found


def main() -> None:
    """Do one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("keeps", type=json.loads)
    arguments = parser.parse_args()
    model = build(arguments.name)
    before = figures(model)
    _, before["analysis_seconds"] = timed(lambda: model, lambda it: engine.analyse(it).groups)
    try:
        before |= export(model, arguments.folder / "keras")
    except Failed as failure:
        before["error"] = str(failure)
    variants: dict[str, dict[str, Any]] = {}
    for name, round_to in VARIANTS.items():
        folder = arguments.folder / f"keras-{name}"
        variants[name] = variant(
            model, arguments.keeps[name], round_to, folder, list(variants.values())
        )
    print(json.dumps({"before": before, "variants": variants}))


if __name__ == "__main__":
    main()
