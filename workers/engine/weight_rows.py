"""What a cut of weights does to each layer, in numbers and words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.prune import NmGranularity, Prune
from workers.engine import graph
from workers.engine.cut import LayerCut
from workers.engine.masks import Mask, smallest
from workers.engine.pieces import Kernel


@dataclass(frozen=True)
class Row:
    """What a cut does to one kernel, in weights."""

    removed: int = 0
    asked: int | None = None
    note: str | None = None

    def __add__(self, other: "Row") -> "Row":
        """Both of a layer's kernels."""
        known = [asked for asked in (self.asked, other.asked) if asked is not None]
        notes = dict.fromkeys(note for note in (self.note, other.note) if note)
        return Row(
            self.removed + other.removed,
            sum(known) if known else None,
            "; ".join(notes) or None,
        )


def asked(kernel: Kernel, prune: Prune, fraction: float | None, step: float) -> int | None:
    """How many weights the spec alone asks for, before limits; None where layers compete."""
    if isinstance(prune.granularity, NmGranularity):
        return int(kernel.n_of_m(prune.granularity, step, None).sum())
    if fraction is None or (prune.scope != "layer" and kernel.wish.remove is None):
        return None
    count = kernel.asked(fraction, step)
    if kernel.blocks is None:
        return count
    return int(kernel.weights(smallest(kernel.saliency, count)).sum())


def row(kernel: Kernel, gone: Mask, wanted: int | None, step: float) -> Row:
    """What becomes of a kernel whose pieces `gone` go, where `wanted` weights were asked for."""
    removed = int(kernel.weights(gone).sum())
    limit = kernel.wish.max_remove
    held = int(gone.sum()) == kernel.cap if wanted is None else removed < wanted
    note = None
    if limit is not None and held:
        note = f"held at its max_remove of {limit:.4g}"
    elif removed == 0 and wanted == 0 and step == 1.0 and kernel.matrix is not None:
        note = _too_small(kernel)
    return Row(removed, wanted, note)


def _too_small(kernel: Kernel) -> str:
    assert kernel.matrix is not None
    if kernel.blocks is not None:
        return f"the share asks for less than one of its {kernel.size} blocks"
    return f"its runs are only {kernel.matrix.sides[0]} long, too short to lose a weight"


def summary(model: Any, kernels: Mapping[str, Row]) -> tuple[LayerCut, ...]:
    """One line per layer that has kernels, in model order; `kernels` are the rows by key."""
    rows: dict[str, Row] = {}
    sizes: dict[str, int] = {}
    for key, variable in graph.kernels(model).items():
        name = graph.layer_of(key)
        rows[name] = rows[name] + kernels[key] if name in rows else kernels[key]
        sizes[name] = sizes.get(name, 0) + graph.size_of(variable)
    return tuple(
        LayerCut(
            name,
            type(model.get_layer(name)).__name__,
            sizes[name],
            row.removed,
            row.asked,
            row.note,
            # Kernels that are skipped, or not pruned by this granularity, say why.
            sizes[name] if row.asked is not None or row.removed or row.note is None else 0,
        )
        for name, row in rows.items()
    )
