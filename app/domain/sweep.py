"""A sweep: many specs over one model or several, and what sets each apart from the others."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, JsonValue, model_validator

from app.domain.base import Record, Strict, Text
from app.domain.choices import wrong

MOST_JOBS = 500
"""Of one sweep."""


class SweepSpec(Strict):
    """Either a list of specs, or one spec and a grid of values that are tried in its fields."""

    specs: tuple[dict[str, JsonValue], ...] = Field(default=(), max_length=MOST_JOBS)
    """Whole job specs, as `POST /v1/jobs` takes them."""
    base: dict[str, JsonValue] | None = None
    """A job spec; fields that the grid fills may be missing."""
    grid: dict[Text, tuple[JsonValue, ...]] = Field(default={}, max_length=20)
    """Values by the path of a field, such as `"prune.target.remove": [0.5, 0.9]`; each value is
    tried with each of the other fields'. The last field varies fastest."""
    name: Text | None = Field(default=None, max_length=200)
    """For people; nothing depends on it."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if bool(self.specs) == (self.base is not None):
            raise ValueError("a sweep has either specs, or base with grid")
        if self.base is None and self.grid:
            raise wrong("grid", "grid varies fields of base: give base instead of specs")
        if self.base is not None and not self.grid:
            raise wrong(
                "grid",
                'grid says what varies, for example {"prune.target.remove": [0.5, 0.9]}; a single '
                "spec goes to POST /v1/jobs",
            )
        for path, values in self.grid.items():
            if not values:
                raise wrong(f"grid.{path}", "there is no value to try here")
        if (count := self.count) > MOST_JOBS:
            raise wrong(
                "grid", f"this makes {count} jobs, and a sweep has at most {MOST_JOBS}: try fewer"
            )
        return self

    @model_validator(mode="after")
    def _can_be_stored(self) -> Self:
        # What the grid overwrites is never read as a spec, and is kept with the sweep all the same.
        for name in ("specs", "base", "grid"):
            if not _is_storable(getattr(self, name)):
                raise wrong(
                    name,
                    "texts hold a character that cannot be stored (U+0000, half of a surrogate "
                    "pair), or a number is not finite",
                )
        return self

    @property
    def count(self) -> int:
        """Jobs of the sweep."""
        product = 1
        for values in self.grid.values():
            product *= len(values)
        return len(self.specs) or product


def _is_storable(value: Any) -> bool:
    """Whether a database can keep a JSON value."""
    if isinstance(value, dict):
        return all(_is_storable(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return all(_is_storable(each) for each in value)
    if isinstance(value, str):
        return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in value)
    return not isinstance(value, float) or math.isfinite(value)


class Member(Record):
    """One spec of a sweep, not yet checked."""

    at: str
    """Where it stands in the sweep, for errors."""
    spec: dict[str, Any]
    varied: dict[str, Any]
    """What sets it apart: the value of each field of the grid."""


def members(sweep: SweepSpec) -> Iterator[Member]:
    """The specs of a sweep, in their order.

    Raises:
        ValueError: a path of the grid leads into something that has no fields.
    """
    for index, spec in enumerate(sweep.specs):
        yield Member(at=f"specs.{index}", spec=spec, varied={"spec": index})
    if sweep.base is None:
        return
    for values in itertools.product(*sweep.grid.values()):
        varied = dict(zip(sweep.grid, values, strict=True))
        spec = dict(sweep.base)
        for path, value in varied.items():
            spec = _with(spec, path.split("."), value)
        said = ", ".join(f"{path} = {value!r}" for path, value in varied.items())
        yield Member(at=f"grid ({said})", spec=spec, varied=varied)


def _with(spec: Any, path: list[str], value: Any) -> dict[str, Any]:
    """A copy of a spec with another value at a path; a choice's bare name becomes an object."""
    if isinstance(spec, str):
        spec = {"kind": spec}
    if spec is not None and not isinstance(spec, dict):
        raise ValueError(path[0])
    first, *rest = path
    copy: dict[str, Any] = dict(spec or {})
    copy[first] = _with(copy.get(first), rest, value) if rest else value
    return copy
