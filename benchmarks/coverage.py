"""Every model builder of keras.applications, pruned at half of its channels.

`python -m benchmarks.coverage [NAME …] [--pairs N] [--no-latency]` prints a Markdown table for
docs/benchmarks.md. Each model is handled by a process of its own: analysed, cut, proven equal to
its masked original, saved, loaded by stock Keras in a fresh process that trains it for one step,
and timed against the original on LiteRT and ONNX Runtime, one thread, call by call in turns.
Weights are random: what is measured does not depend on them.

With `--hub` the models are KerasHub's backbones of moderate size (benchmarks/hub), of whose
channels and then of whose heads half go, without latencies.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.hub import BACKBONES
from benchmarks.hub.table import HEADS as HUB_HEADS
from benchmarks.hub.table import hub_line, hub_row
from benchmarks.pruning import pruned
from workers.training.data import Samples

RUNTIMES = ("litert", "onnxruntime")
SPEC: dict[str, Any] = {
    "target": {"kind": "fraction", "remove": 0.5},
    "scope": "latency",
    "round_to": 16,
}
"""16 channels fill a register of AVX-512, and are what ONNX Runtime blocks images by there."""
CHOSEN = ("MobileNetV2", "EfficientNetB0")


def builders() -> list[str]:
    """Names of all model builders of keras.applications, smallest first as far as known."""
    import keras

    found = [
        name
        for name in dir(keras.applications)
        if name[0].isupper() and callable(getattr(keras.applications, name))
    ]
    return sorted(found)


def build(name: str) -> Any:
    """One of them with random weights, the same each time; 224 pixels where its size is open.

    Statistics are those of a random image, as they are in a trained model. With others, values grow
    from block to block, to 300,000 in EfficientNetV2L, where float noise alone decides the outputs.
    """
    import keras
    import numpy as np

    from workers.training.statistics import reestimate_statistics

    keras.utils.set_random_seed(0)
    builder = getattr(keras.applications, name)
    model = builder(weights=None)
    if any(axis is None for axis in model.inputs[0].shape[1:]):
        model = builder(weights=None, input_shape=(224, 224, 3))
    random = np.random.default_rng(0)
    for variable in model.weights:
        kind = variable.name
        if "gamma" in kind:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif "beta" in kind:
            variable.assign(random.normal(0.0, 0.1, variable.shape))
    image = random.standard_normal((1, *model.inputs[0].shape[1:])).astype("float32")
    reestimate_statistics(model, Samples({"image": image}, (), 1), 1, seed=0)
    return model


def one(name: str, pairs: int, latency: bool) -> dict[str, Any]:
    """All figures of one model."""
    from workers import engine

    model = build(name)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        analysis = engine.analyse(model)
        len(analysis.groups)
        seconds.append(time.perf_counter() - started)
    found = pruned(model, SPEC)
    row: dict[str, Any] = {
        "name": name,
        "analysis_s": statistics.median(seconds),
        "surgery_s": found.seconds,
        "difference": found.difference,
        "equal": found.equal,
        "macs": found.macs,
        "pruned": found.smaller,
        "reloaded": found.error is None,
        "error": found.error,
    }
    if latency:
        row["latency"] = {
            runtime: _latency(model, found.model, runtime, pairs) for runtime in RUNTIMES
        }
    return row


def _latency(model: Any, reduced: Any, runtime: Any, pairs: int) -> dict[str, Any]:
    from workers.measure.pair import time_models

    try:
        before, after = time_models(model, reduced, runtime, repeats=pairs)
    except Exception as error:  # noqa: BLE001  (a runtime may fail in any way)
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    assert after.speed_up is not None
    return {
        "before_ms": before.p50_ms,
        "after_ms": after.p50_ms,
        "speed_up": after.speed_up,
        "interval": after.speed_up_interval,
    }


def share(row: dict[str, Any], runtime: str) -> float | None:
    """Realised share: the speed-up over the reduction of MACs."""
    measured = row.get("latency", {}).get(runtime, {})
    if "speed_up" not in measured:
        return None
    before, after = row["macs"]
    return float(measured["speed_up"] * after / before)


def in_process(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """`one`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.coverage", "--one", name]
    command += ["--pairs", str(arguments.pairs)]
    command += [] if arguments.latency else ["--no-latency"]
    command += ["--hub"] if arguments.hub else []
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"name": name, "error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    if "macs" not in row:
        return f"| {row['name']} | failed: {row['error']} |"
    before, after = row["macs"]
    cells = [
        row["name"],
        f"{row['analysis_s']:.2f}",
        f"{row['surgery_s']:.1f}",
        "yes" if row["pruned"] else "NO",
        f"{'yes' if row['equal'] else 'NO'} ({row['difference']:.0e})",
        "yes" if row["reloaded"] else f"NO: {row.get('error')}",
        f"{before / 1e6:,.0f} → {after / 1e6:,.0f} ({before / after:.2f}x)",
    ]
    for runtime, measured in row.get("latency", {}).items():
        if "error" in measured:
            cells += [measured["error"], ""]
            continue
        realised = share(row, runtime) or 0.0
        times = f"{measured['before_ms']:.1f} → {measured['after_ms']:.1f}"
        cells += [f"{times} ({measured['speed_up']:.2f}x)", f"{realised:.2f}"]
    return f"| {' | '.join(cells)} |"


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Medians, goals and the last line."""
    said = []
    for runtime in RUNTIMES:
        shares = {row["name"]: share(row, runtime) for row in rows}
        known = {name: value for name, value in shares.items() if value is not None}
        if known:
            slower = [
                row["name"]
                for row in rows
                if row.get("latency", {}).get(runtime, {}).get("speed_up", 2.0) < 1.0
            ]
            picked = ", ".join(f"{n} {known[n]:.2f}" for n in CHOSEN if n in known)
            median = statistics.median(known.values())
            said.append(
                f"{runtime}: realised share {median:.2f} in the median of {len(known)} models; "
                f"{picked}; slower than before: {', '.join(slower) or 'none'}."
            )
    passed = [r for r in rows if all(r.get(k) for k in ("pruned", "equal", "reloaded"))]
    said.append(f"{len(passed)}/{len(rows)} analysed, pruned, proven equal, reloaded and trained")
    return said


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--hub", action="store_true", help="KerasHub's backbones")
    parser.add_argument("--one", help="figures of one model as JSON")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of calls that are timed")
    parser.add_argument("--no-latency", dest="latency", action="store_false")
    arguments = parser.parse_args()
    if arguments.one and arguments.hub:
        print(json.dumps(hub_row(arguments.one)))
        return
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.pairs, arguments.latency)))
        return
    heads = ["Model", "Analysis s", "Cut and surgery s", "Pruned", "Equal", "Reloaded", "MMACs"]
    if arguments.hub:
        heads = list(HUB_HEADS)
    elif arguments.latency:
        heads += ["LiteRT ms", "share", "ONNX Runtime ms", "share"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    rows = []
    for name in arguments.names or (BACKBONES if arguments.hub else builders()):
        rows.append(in_process(name, arguments))
        print((hub_line if arguments.hub else line)(rows[-1]), flush=True)
    print()
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
