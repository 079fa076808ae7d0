"""One of KerasHub's backbones: taken apart, cut, proven equal, reloaded and trained."""

import time
from typing import Any

from benchmarks.hub import MODERATE, backbone
from benchmarks.pruning import pruned

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
    asked = {"granularity": granularity, "target": {"kind": "fraction", "remove": 0.5}}
    found = pruned(model, asked, hub=hub)
    row["difference"] = max(row["difference"], found.difference)
    row["equal"] &= found.equal
    row["macs"][granularity] = found.macs
    row["pruned"] &= found.smaller
    row["reloaded"] &= found.error is None
    if found.error is not None:
        row["error"] = found.error


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
