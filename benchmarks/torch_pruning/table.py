"""The comparison as Markdown, with its summary; pure functions over the figures of run.py."""

import statistics
from typing import Any

from benchmarks.torch_pruning.networks import VARIANTS

AGREE = 0.02
"""MACs and shares this close, relatively, count as the same."""
LONGEST = 300
"""Characters of a message; the rest is in the JSON."""
TITLES = {"torch": "Torch-Pruning", "secateur": "Secateur"}
Found = dict[str, Any]


def report(rows: list[Found]) -> str:
    """A table per variant, what must be said about its rows, and the summary."""
    parts = ["Figures in twos are Torch-Pruning's / Secateur's.", ""]
    for name in VARIANTS:
        parts += [f"`round_to`: {name}", "", table(rows, name), ""]
    said = remarks(rows)
    parts += [*said, ""] if said else []
    return "\n".join([*parts, *summary(rows)])


def variant(row: Found, side: str, name: str) -> Found:
    """One cut's figures; {"error": ...} where the whole side failed."""
    found: Found = row[side].get("variants", {}).get(name) or {"error": row[side].get("error", "")}
    return found


def works(found: Found) -> bool:
    """Whether a cut was made, runs, and was exported and timed."""
    return "error" not in found and "speed_up" in found


def kept(row: Found, side: str, name: str) -> float:
    """Share of the MACs that a cut kept."""
    return float(variant(row, side, name)["macs"] / row[side]["before"]["macs"])


def realised(row: Found, side: str, name: str) -> float:
    """Speed-up over the saving of MACs: 1 where time shrinks as much as the work."""
    return float(variant(row, side, name)["speed_up"] * kept(row, side, name))


def working(row: Found, side: str) -> list[str]:
    """The variants of a side whose cut works."""
    return [name for name in VARIANTS if works(variant(row, side, name))]


def best(row: Found, side: str) -> float:
    """The better realised share of a side's variants that work."""
    return max(realised(row, side, name) for name in working(row, side))


def seconds(row: Found, side: str) -> float:
    """The quicker analysis and pruning of a side's variants that work."""
    return min(float(variant(row, side, name)["seconds"]) for name in working(row, side))


def analysis(row: Found, side: str) -> float | None:
    """Seconds to find what belongs together, None where that failed."""
    found: float | None = row[side].get("before", {}).get("analysis_seconds")
    return found


def table(rows: list[Found], name: str) -> str:
    """One line per network."""
    head = ["Network", "MACs, M", "MACs kept", "Exact", "Analysis s", "Analysis and pruning s"]
    head += ["Latency, ms", "Realised share"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        before = row["torch"].get("before", {}).get("macs")
        theirs, ours = (cells(row, side, name) for side in TITLES)
        paired = [" / ".join(both) for both in zip(theirs, ours, strict=True)]
        lines.append([row["name"], f"{before / 1e6:.0f}" if before else "", *paired])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(row: Found, side: str, name: str) -> list[str]:
    """One cut: share kept, exactness, seconds, latencies, realised share."""
    found, analysed = variant(row, side, name), analysis(row, side)
    quick = "–" if analysed is None else f"{analysed:.3f}"
    if not works(found):
        return ["failed", "–", quick, *["–"] * 3]
    return [
        f"{kept(row, side, name):.1%}",
        "yes" if found["exact"] else "no",
        quick,
        f"{found['seconds']:.2f}",
        f"{found['before_ms']:.1f} → {found['after_ms']:.1f}",
        f"{realised(row, side, name):.2f}",
    ]


def remarks(rows: list[Found]) -> list[str]:
    """Failures, refusals, and where the two sides' MACs are not alike, one line each."""
    found: dict[str, None] = {}
    for row in rows:
        for text in [*_failures(row), *_differences(row)]:
            found[f"- {row['name']}, {text}"] = None
    return list(found)


def _failures(row: Found) -> list[str]:
    found = []
    for side, title in TITLES.items():
        for name in VARIANTS:
            cut = variant(row, side, name)
            texts = [cut[key] for key in ("error", "note") if cut.get(key)]
            found += [f"{title}: {_shortened(text)}" for text in texts]
    return found


def _differences(row: Found) -> list[str]:
    if not all("before" in row[side] for side in TITLES):
        return []
    torch, keras = (row[side]["before"]["macs"] for side in TITLES)
    found = []
    if abs(keras - torch) > AGREE * torch:
        found.append(f"before: {torch / 1e6:.1f} M MACs in torch, {keras / 1e6:.1f} M in Keras")
    for name in VARIANTS:
        if all("macs" in variant(row, side, name) for side in TITLES):
            theirs, ours = (kept(row, side, name) for side in TITLES)
            if abs(ours - theirs) > AGREE * theirs:
                found.append(f"{name}: Torch-Pruning kept {theirs:.1%}, Secateur {ours:.1%}")
    return found


def summary(rows: list[Found]) -> list[str]:
    """Per network and over all: who is ahead; the last line says on how many of the measures."""
    both = [row for row in rows if all(working(row, side) for side in TITLES)]
    counts = {"ahead": 0, "even": 0, "behind": 0}
    for row in both:
        counts[_verdict(best(row, "secateur"), best(row, "torch"))] += 1
    lines = [
        f"Realised share where both cut, better variant of each: Secateur ahead on "
        f"{counts['ahead']}, even (within {AGREE:.0%}) on {counts['even']}, behind on "
        f"{counts['behind']} of {len(both)} networks.",
        f"Proven to compute what the original does without the channels: "
        f"{'; '.join(f'{title} {_exact(rows, side)}' for side, title in TITLES.items())}.",
        "",
    ]
    ours, theirs = (
        {
            "networks cut": _covered(rows, side),
            "seconds of analysis": _median(
                [found for row in both if (found := analysis(row, side)) is not None]
            ),
            "seconds of analysis and pruning": _median([seconds(row, side) for row in both]),
            "realised share": _median([best(row, side) for row in both]),
        }
        for side in ("secateur", "torch")
    )
    said, ahead = [], 0
    for measure, mine in ours.items():
        other = theirs[measure]
        if mine is None or other is None:
            said.append(f"{measure}: no network that both cut")
            continue
        ahead += mine < other if "seconds" in measure else mine > other
        said.append(f"{measure} {_number(mine)} against {_number(other)}")
    text = f"ahead on {ahead} of {len(ours)}: {'; '.join(said)}"
    return [*lines, f"{text} (of {len(rows)} networks; medians over the {len(both)} both cut)"]


def _verdict(mine: float, other: float) -> str:
    if abs(mine - other) <= AGREE * other:
        return "even"
    return "ahead" if mine > other else "behind"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _covered(rows: list[Found], side: str) -> int:
    return sum(bool(working(row, side)) for row in rows)


def _exact(rows: list[Found], side: str) -> int:
    return sum(
        all(variant(row, side, name)["exact"] for name in working(row, side))
        for row in rows
        if working(row, side)
    )


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
