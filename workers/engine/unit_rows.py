"""What a cut of units does to each layer, in rows and in words; and refusals with every reason."""

from collections.abc import Iterator

from app.domain.errors import EngineRefusal
from app.domain.prune import Prune
from workers.engine.analysis import Analysis, LayerAnalysis
from workers.engine.budgets import Choice
from workers.engine.candidates import Candidate, eligible, wished_of
from workers.engine.cut import LayerCut
from workers.engine.overrides import wish

KINDS = {"unit": "units of Dense layers", "channel": "channels", "head": "attention heads"}


def refusal(sentence: str, analysis: Analysis, prune: Prune) -> EngineRefusal:
    """The sentence, and why every layer that keeps all its units does."""
    stays = [
        why if why.startswith(name) else f"{name}: {why}"
        for name, why in _stays(analysis, prune).items()
    ]
    more = [f"and {len(stays) - 12} more"] if len(stays) > 12 else []
    return EngineRefusal(
        " ".join([sentence, "; ".join(stays[:12] + more)]) + ".",
        errors=tuple(
            {"field": name, "detail": why} for name, why in _stays(analysis, prune).items()
        ),
    )


def _stays(analysis: Analysis, prune: Prune) -> dict[str, str]:
    """Why layers that have units keep all of them, by name."""
    found = dict(analysis.walk.opaque)
    for layer, _, _ in _rows(analysis):
        if (why := _why(analysis, prune, layer.name)) is not None:
            found[layer.name] = why
    return found


def _why(analysis: Analysis, prune: Prune, key: str) -> str | None:
    mine = set(analysis.makers_of(key))
    groups = [group for group in analysis.groups if mine & set(group.columns)]
    if not groups:
        return analysis.reason(key) or "its units are not understood"
    counted = [group for group in eligible(analysis, prune) if mine & set(group.columns)]
    for group in counted:
        if wished_of(analysis, group, prune).skip:
            return "skipped by the spec, itself or with a layer it is coupled with"
    if not counted:
        return f"granularity {prune.granularity.kind} removes {KINDS[prune.granularity.kind]} only"
    return analysis.reason(key)


def summary(
    analysis: Analysis,
    candidates: list[Candidate],
    prune: Prune,
    choice: Choice,
    fraction: float,
    step: float,
) -> tuple[LayerCut, ...]:
    """One row for each layer that has units."""
    rows = []
    for layer, units, names in _rows(analysis):
        mine = [
            (c, sum(c.group.columns.get(name, 0) for name in names))
            for c in candidates
            if names & set(c.group.columns)
        ]
        gone = sum(choice[c.group.key] * columns for c, columns in mine)
        asked, note = None, _why(analysis, prune, layer.name)
        if mine and all(_has_share(c, prune) for c, _ in mine):
            asked = sum(c.asked(fraction, step) * columns for c, columns in mine)
        if note is None:
            said = {_limit(c, prune, choice[c.group.key], fraction, step) for c, _ in mine}
            said |= {_coupling(c, prune, layer.name) for c, _ in mine}
            if asked == 0 and all(c.size == c.original for c, _ in mine):
                said.add(f"a share this small of {units} rounds to none")
            note = "; ".join(sorted(each for each in said if each is not None)) or None
        elif (own := wish(layer.name, prune).remove) is not None:
            note += f"; the remove of {own:.4g} asked for it has no effect"
        may = sum(c.original * columns for c, columns in mine)
        rows.append(LayerCut(layer.name, layer.class_name, units, gone, asked, note, may))
    return tuple(rows)


def _rows(analysis: Analysis) -> Iterator[tuple[LayerAnalysis, int, frozenset[str]]]:
    """Layers that have units, how many, and their makers' names."""
    for layer in analysis.layers:
        mine = analysis.makers_of(layer.name)
        if layer.units is not None or mine:
            units = layer.units or sum(maker.axis.size or 0 for maker in mine.values())
            yield layer, units, frozenset(mine)


def _has_share(candidate: Candidate, prune: Prune) -> bool:
    return prune.scope == "layer" or candidate.wish.remove is not None


def _coupling(candidate: Candidate, prune: Prune, name: str) -> str | None:
    """Whose share holds, where a layer loses what another one was told to lose."""
    held = candidate.wish.remove
    if held is None or candidate.wish.remove_of == name or wish(name, prune).remove == held:
        return None
    return f"coupled with {candidate.wish.remove_of}, whose remove of {held:.4g} holds"


def _limit(
    candidate: Candidate, prune: Prune, gone: int, fraction: float, step: float
) -> str | None:
    """Which limit decided how many units of a group go, if any."""
    if _has_share(candidate, prune) and gone == candidate.asked(fraction, step):
        return None
    if candidate.size - gone <= candidate.at_least:
        if candidate.at_least > prune.min_units:
            whose = f"{candidate.wish.max_remove:.4g} of {candidate.wish.max_remove_of}"
            return f"held at the max_remove of {whose}"
        return f"its last units stay: min_units is {prune.min_units}"
    if candidate.multiple is not None:
        return f"kept a multiple of {candidate.multiple}"
    return "the target has room for more of them" if _has_share(candidate, prune) else None
