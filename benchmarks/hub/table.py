"""One of KerasHub's backbones: taken apart, cut, proven equal, reloaded and trained."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.hub import MODERATE, backbone

HEADS = (
    "Backbone",
    "Taken apart s",
    "Analysis s",
    "Channels that may go",
    "Heads that may go",
    "Pruned",
    "Equal",
    "Reloaded",
    "MMACs: channels",
    "MMACs: heads",
    "Layers left as they are",
)
FRESH = """
import sys, numpy as np, keras
if sys.argv[2:]:
    import keras_hub
model = keras.models.load_model(sys.argv[1])
random, given = np.random.default_rng(0), []
for tensor in model.inputs:
    shape = [2, *(axis or 32 for axis in tensor.shape[1:])]
    whole = "int" in tensor.dtype
    given.append(np.ones(shape) if whole else random.standard_normal(shape).astype("float32"))
outputs = keras.tree.flatten(model(given))
model = keras.Model(model.inputs, model.outputs)
model.compile("sgd", ["mse"] * len(outputs))
losses = model.train_on_batch(given, [np.zeros(each.shape, "float32") for each in outputs])
assert np.isfinite(np.ravel(losses)).all(), losses
"""


def hub_row(name: str) -> dict[str, Any]:
    """All figures of one backbone."""
    import keras

    from workers import engine

    built = backbone(name, MODERATE)
    inputs = built.input
    if isinstance(inputs, dict):
        inputs = {key: inputs[key] for key in sorted(inputs)}
    model = keras.Model(inputs, built.output, name=built.name)  # As the service loads it.
    row: dict[str, Any] = {"name": name}
    started = time.perf_counter()
    apart = engine.inlined(model)
    row["apart_s"] = time.perf_counter() - started
    whole = apart.model
    started = time.perf_counter()
    analysis = engine.analyse(whole)
    row["channels"] = sum(group.units.size for group in analysis.channel_groups)
    row["analysis_s"] = time.perf_counter() - started
    row["heads"] = sum(group.units.size for group in analysis.groups if group.heads)
    row["stays"] = sorted({reason.split(" ")[0] for reason in apart.stays.values()})
    same = engine.prove_same(model, whole)
    row["difference"], row["equal"] = same.relative, same.holds
    row["macs"], row["pruned"], row["reloaded"] = {}, bool(row["channels"]), True
    for granularity in ("channel", "head"):
        if row[f"{granularity}s"]:
            _cut(whole, granularity, row, hub=bool(apart.stays))
    return row


def _cut(model: Any, granularity: str, row: dict[str, Any], *, hub: bool) -> None:
    from app.domain.spec import Prune
    from workers import engine

    target = {"kind": "fraction", "remove": 0.5}
    cut = engine.choose(model, Prune.model_validate({"granularity": granularity, "target": target}))
    reduced = engine.apply(model, cut)
    proof = engine.prove(model, reduced, cut)
    row["difference"] = max(row["difference"], proof.relative)
    row["equal"] &= proof.holds
    before, after = engine.count(model), engine.count(reduced)
    row["macs"][granularity] = (before.macs, after.macs)
    row["pruned"] &= engine.predict(model, cut) == after and after.macs < before.macs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        reduced.save(path)
        command = [sys.executable, "-c", FRESH, str(path), *(["keras_hub"] if hub else [])]
        fresh = subprocess.run(command, capture_output=True, text=True)
    row["reloaded"] &= fresh.returncode == 0
    if fresh.returncode:
        row["error"] = fresh.stderr.strip().splitlines()[-1][:200]


def hub_line(row: dict[str, Any]) -> str:
    """One row of the table."""
    if "macs" not in row:
        return f"| {row['name']} | failed: {row['error']} |"
    cells = [
        row["name"],
        f"{row['apart_s']:.1f}",
        f"{row['analysis_s']:.2f}",
        f"{row['channels']:,}",
        f"{row['heads']:,}",
        "yes" if row["pruned"] else "NO",
        f"{'yes' if row['equal'] else 'NO'} ({row['difference']:.0e})",
        "yes" if row["reloaded"] else f"NO: {row.get('error')}",
    ]
    for granularity in ("channel", "head"):
        before, after = row["macs"].get(granularity, (0, 0))
        cells.append(f"{before / 1e6:,.1f} → {after / 1e6:,.1f}" if before else "")
    cells.append(", ".join(row["stays"]))
    return f"| {' | '.join(cells)} |"
