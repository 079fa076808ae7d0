"""Errors that come back out of the database, because a worker met them."""

from typing import Any

from app.domain.errors import SecateurError, error_classes


def from_problem(problem: dict[str, Any]) -> SecateurError:
    """The error that a stored problem tells of."""
    by_type = {f"/problems/{cls.slug}": cls for cls in error_classes()}
    cls = by_type.get(str(problem.get("type")), SecateurError)
    return cls(
        str(problem.get("detail", "")),
        field=problem.get("field"),
        errors=tuple(problem.get("errors") or ()),
    )
