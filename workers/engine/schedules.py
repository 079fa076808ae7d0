"""Schedules: which share of the target is to be gone after each step."""

from app.domain.spec import IterativeSchedule, OneShotSchedule, PolynomialSchedule, Schedule


def shares(schedule: Schedule) -> tuple[float, ...]:
    """Shares of the target in (0, 1], rising, one per step; the last is exactly 1.0.

    `iterative` cuts equal shares [Han et al. 2015]; `polynomial` much at first and ever less
    later: 1 - (1 - progress)^power [Zhu & Gupta 2017, arXiv:1710.01878].
    """
    match schedule:
        case OneShotSchedule():
            return (1.0,)
        case IterativeSchedule(steps=steps):
            return tuple(step / steps for step in range(1, steps + 1))
        case PolynomialSchedule(steps=steps, power=power):
            return tuple(1.0 - (1.0 - step / steps) ** power for step in range(1, steps + 1))
