"""One cut, ready to be trained, and a training that is cut off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.domain.prune import Prune
from workers import engine
from workers.training.state import JobState, restore, save

OnEpoch = Callable[[Any], None]
Train = Callable[[JobState, OnEpoch], None]
"""Trains a state, and tells of each epoch."""


class Killed(Exception):
    """Stands for kill -9."""


def half_of(model: Any) -> JobState:
    """The state after a cut of half of the weights."""
    prune = Prune.model_validate(
        {"granularity": "weight", "target": {"kind": "fraction", "remove": 0.5}}
    )
    cut = engine.choose(model, prune)
    reduced = engine.apply(model, cut)
    state = JobState(model=reduced, progress=cut.progress, step=1)
    state.masks = engine.masks_by_variable(reduced, cut)
    return state


def cut_off(state: JobState, train: Train, epoch: int, folder: Path) -> JobState:
    """The state as a later attempt finds it, when training dies after an epoch."""

    def die(figure: Any) -> None:
        save(state, folder / "checkpoint.zip")
        if figure.epoch == epoch:
            raise Killed

    with pytest.raises(Killed):
        train(state, die)
    return restore(folder / "checkpoint.zip", folder)
