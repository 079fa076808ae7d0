"""Secateur's engine beside Torch-Pruning: `python -m benchmarks.torch_pruning.run`.

For each network the two sides run one after the other, each in its own environment and process;
then the models of both are timed together. Prints a Markdown table for docs/benchmarks.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environments import interpreter
from benchmarks.torch_pruning.networks import NETWORKS, VARIANTS, Network, network
from benchmarks.torch_pruning.table import report

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LIMIT_SECONDS = 900
"""A step that takes longer counts as failed."""
Found = dict[str, Any]


def step(python: Path | str, module: str, *arguments: str) -> Found:
    """Run one module; what it prints last is JSON, and {"error": ...} stands for a failure."""
    command = [python, "-W", "ignore", "-m", f"benchmarks.torch_pruning.{module}", *arguments]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {LIMIT_SECONDS} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1][:300] if lines else f"ended with code {done.returncode}"}
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def keeps(torch: Found) -> dict[str, float | None]:
    """The share of MACs that Torch-Pruning kept, by variant; None where it failed."""
    found: dict[str, float | None] = {}
    for name in VARIANTS:
        variant = torch.get("variants", {}).get(name, {"error": ""})
        failed = "error" in variant
        found[name] = None if failed else variant["macs"] / torch["before"]["macs"]
    return found


def add_timings(pairs: int, sides: Iterable[Found]) -> None:
    """Time all cuts that were exported, in one process, and add latencies to their figures."""
    cuts: list[Found] = []
    files: list[str] = []
    for found in sides:
        before = found.get("before", {})
        for variant in found.get("variants", {}).values():
            if "onnx" in variant and "onnx" not in before:
                variant["error"] = f"of the original: {before['error']}"
            elif "onnx" in variant:
                cuts.append(variant)
                files += [before["onnx"], variant["onnx"]]
    if not files:
        return
    timed = step(sys.executable, "timing", str(pairs), *files)
    for index, variant in enumerate(cuts):
        variant |= timed["pairs"][index] if "pairs" in timed else {"error": timed["error"]}


def compare(each: Network, pairs: int, python: Path) -> Found:
    """Both sides of one network."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="secateur-torch-") as folder:
        torch = step(python, "torch_side", each.name, folder)
        asked = json.dumps(keeps(torch))
        secateur = step(sys.executable, "keras_side", each.name, folder, asked)
        add_timings(pairs, (torch, secateur))
    print(f"{each.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return {"name": each.name, "origin": each.origin, "torch": torch, "secateur": secateur}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="one network; repeatable")
    parser.add_argument("--pairs", type=int, default=15, help="timed pairs of calls per cut")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    arguments = parser.parse_args()
    python = interpreter(HERE, ".venv-torch")
    chosen = [network(name) for name in arguments.only] if arguments.only else NETWORKS
    rows = [compare(each, arguments.pairs, python) for each in chosen]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    print(report(rows))


if __name__ == "__main__":
    main()
