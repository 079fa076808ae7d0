"""Specs: as dictionaries, as types, or from one goal in plain words."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from app.domain.errors import InvalidSpec

Spec = Mapping[str, Any] | BaseModel
"""A spec as JSON would hold it, or a `PruningSpec` (`SweepSpec` for sweeps)."""

GOALS: dict[str, dict[str, Any]] = {
    "sparsity": {"granularity": "weight", "scope": "global"},
    "units": {"granularity": "unit"},
    "channels": {"granularity": "channel"},
    "macs": {"granularity": "channel"},
    "max_drop": {"granularity": "channel", "scope": "latency"},
}
"""What a goal prunes: shares that are removed, but for `macs` (kept) and `max_drop` (points)."""


def body(spec: Spec) -> dict[str, Any]:
    """A spec as it is sent: of a type, what was set."""
    if isinstance(spec, BaseModel):
        return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dict(spec)


def towards(
    goals: Mapping[str, float | None], *, epochs: int | None, exports: Iterable[str]
) -> dict[str, Any]:
    """The spec of one goal, without model and data set.

    Args:
        goals: one of `GOALS` with its value; None where it was not given.
        epochs: of fine-tuning; 0 trains nothing, None where there are no data.
        exports: files beside the Keras model.

    Raises:
        InvalidSpec: no goal, or several.
    """
    given = {name: value for name, value in goals.items() if value is not None}
    if len(given) != 1:
        raise InvalidSpec(
            f"One goal is needed, and {len(given)} were given: say one of "
            f"{', '.join(GOALS)}, or write a spec."
        )
    ((name, value),) = given.items()
    target: dict[str, Any] = {"kind": "fraction", "remove": value}
    if name == "macs":
        target = {"kind": "macs", "keep": value}
    elif name == "max_drop":
        target = {"kind": "accuracy_drop", "max_points": value}
    made: dict[str, Any] = {"prune": GOALS[name] | {"target": target}}
    if epochs is not None:
        made["fine_tune"] = {"epochs": epochs} if epochs else None
    if more := [each for each in exports if each != "keras"]:
        made["exports"] = ["keras", *more]
    return made
