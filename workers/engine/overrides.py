"""What the spec says about single layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from app.domain.spec import Prune


@dataclass(frozen=True)
class Wish:
    """What holds for one layer, or one group of coupled units."""

    skip: bool = False
    remove: float | None = None
    max_remove: float | None = None


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


def common_wish(names: Iterable[str], prune: Prune) -> Wish:
    """For coupled layers: a skip of any is a skip of all, and the smallest share wins."""
    wishes = [wish(name, prune) for name in names]
    return Wish(
        skip=any(each.skip for each in wishes),
        remove=min((each.remove for each in wishes if each.remove is not None), default=None),
        max_remove=min(
            (each.max_remove for each in wishes if each.max_remove is not None), default=None
        ),
    )
