"""Which of several models nothing else beats. Pure."""

from collections.abc import Iterable, Sequence

from app.domain.base import Record

LOSS = "loss"
LOWER_IS_BETTER = frozenset({LOSS, "mean_squared_error", "mean_absolute_error"})


class Point(Record):
    """One model: its sizes, where less is better, and a metric."""

    sizes: tuple[float, ...]
    metric: str = ""
    value: float | None = None
    """None where the metric was not measured, or is no number."""


def by_interest(metrics: Iterable[str]) -> list[str]:
    """Names of metrics, the one that models are compared by first; the loss comes last."""
    return sorted(metrics, key=lambda name: name == LOSS)


def on_front(points: Sequence[Point | None]) -> list[bool]:
    """Whether each point is on the Pareto front; None is on none.

    A point is beaten by another that is at least as good in all sizes and the metric, and better in
    one. Points of different metrics are not compared.
    """
    return [
        point is not None and not any(_beats(other, point) for other in points if other is not None)
        for point in points
    ]


def _beats(one: Point, other: Point) -> bool:
    if one.metric != other.metric or (one.value is None) != (other.value is None):
        return False
    mine, theirs = (_costs(each) for each in (one, other))
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def _costs(point: Point) -> tuple[float, ...]:
    if point.value is None:
        return point.sizes
    sign = 1.0 if point.metric in LOWER_IS_BETTER else -1.0
    return (*point.sizes, sign * point.value)
