"""Optimizers and how their learning rate changes."""

from typing import Any

import keras

from app.domain.recovery import (
    AdamOptimizer,
    CosineRate,
    FineTune,
    RmspropOptimizer,
    SgdOptimizer,
)


def make_optimizer(spec: FineTune, batches: int, epochs: int) -> Any:
    """A fresh Keras optimizer for one step of the schedule.

    Its rate is a function of its count of updates, which a checkpoint holds: a job that goes on
    after a crash goes on at the same rate.

    Args:
        spec: what is asked for.
        batches: of an epoch.
        epochs: of this step.
    """
    chosen, clip = spec.optimizer, {"global_clipnorm": spec.clip_norm}
    rate = _rate(spec, batches, epochs)
    match chosen:
        case AdamOptimizer(weight_decay=None):
            return keras.optimizers.Adam(rate, **clip)
        case AdamOptimizer(weight_decay=decay):
            return keras.optimizers.AdamW(rate, weight_decay=decay, **clip)
        case SgdOptimizer():
            return keras.optimizers.SGD(
                rate,
                momentum=chosen.momentum,
                nesterov=chosen.nesterov,
                weight_decay=chosen.weight_decay,
                **clip,
            )
        case RmspropOptimizer():
            return keras.optimizers.RMSprop(rate, **clip)


def _rate(spec: FineTune, batches: int, epochs: int) -> Any:
    """A number, or a function of the count of updates."""
    full, schedule = spec.optimizer.learning_rate, spec.learning_rate_schedule
    # Steps may be shorter than the warm-up; each reaches the full rate.
    warmup = min(round(schedule.warmup_epochs * batches), epochs * batches)
    if isinstance(schedule, CosineRate):
        decay = max(1, epochs * batches - warmup)
        if not warmup:
            return keras.optimizers.schedules.CosineDecay(full, decay, schedule.final_share)
        return keras.optimizers.schedules.CosineDecay(
            0.0, decay, schedule.final_share, warmup_target=full, warmup_steps=warmup
        )
    if not warmup:
        return full
    return keras.optimizers.schedules.PolynomialDecay(0.0, warmup, end_learning_rate=full)
