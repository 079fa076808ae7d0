"""What the spec says about single layers."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape

from app.domain.prune import LayerOverride, Prune


@dataclass(frozen=True)
class Wish:
    """What holds for one layer, or one group of coupled units."""

    skip: bool = False
    remove: float | None = None
    max_remove: float | None = None
    remove_of: str | None = None
    """For a group: the layer whose remove holds."""
    max_remove_of: str | None = None
    """For a group: the layer whose max_remove holds."""


def wish(name: str, prune: Prune) -> Wish:
    """What holds for the layer `name`: the last match wins, field by field.

    A later remove or max_remove takes a layer out of an earlier skip.
    """
    found = Wish()
    for override in prune.layers:
        if not fnmatchcase(name, override.match):
            continue
        if override.skip:
            found = Wish(skip=True)
        else:
            remove = found.remove if override.remove is None else override.remove
            limit = found.max_remove if override.max_remove is None else override.max_remove
            found = Wish(False, remove, limit)
    return found


def exactly(name: str, share: float) -> LayerOverride:
    """The override of one layer, however long its name, and whatever it holds; of any share."""
    return LayerOverride.model_construct(match=escape(name), remove=share)


def common_wish(members: Iterable[str], makers: Container[str], prune: Prune) -> Wish:
    """For coupled layers: a skip of any is a skip of all, and the smallest share wins.

    A share given to a layer means the units that it makes. A layer that makes none, such as a
    normalisation, can only mean those that pass through it; one that makes its own, such as a
    separable convolution, says nothing of those that it reads.

    Args:
        members: the group's makers, and the layers its units pass through.
        makers: those of the members that make the group's units, or make none at all.
    """
    wishes = {name: wish(name, prune) for name in members}
    telling = {name: each for name, each in wishes.items() if name in makers}
    remove_of, remove = _least((name, each.remove) for name, each in telling.items())
    limit_of, limit = _least((name, each.max_remove) for name, each in telling.items())
    skip = any(each.skip for each in wishes.values())
    return Wish(skip, remove, limit, remove_of, limit_of)


def _least(shares: Iterable[tuple[str, float | None]]) -> tuple[str | None, float | None]:
    """The smallest share that was given, and the first layer that gave it."""
    given = [(share, name) for name, share in shares if share is not None]
    if not given:
        return None, None
    share = min(share for share, _ in given)
    return next(name for each, name in given if each == share), share
