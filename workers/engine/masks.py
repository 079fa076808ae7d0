"""Masks: which weights stay, and how they are held at zero while training."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from workers.engine import graph

Mask = NDArray[np.bool_]


def removal_count(share: float, entries: int) -> int:
    """How many of `entries` go. **The one exact rule**, for weights and units alike.

    - The count is Python's `round(share * entries)`: halves go to the even number.
    - The smallest saliency goes first; among equals, the one with the lower index (row by row in
      a kernel, model order between layers).
    - The last `min_units` units of a group of coupled units are never removed.
    - With `round_to`, what is kept is the nearest multiple of it, at least one multiple, halves
      up, and never more than there is.
    """
    return round(share * entries)


def limited(kept: int, entries: int, at_least: int, round_to: int | None) -> int:
    """How many of `entries` units stay when `kept` would, under the limits of the rule above."""
    kept = max(kept, at_least)
    if round_to is not None:
        kept = max(1, (2 * kept + round_to) // (2 * round_to)) * round_to
        if kept < at_least:
            kept = -(-at_least // round_to) * round_to
    return min(kept, entries)


def most(max_remove: float, entries: int) -> int:
    """How many may go at most: `max_remove * entries`, rounded down."""
    return int(max_remove * entries + 1e-9)


def smallest(saliency: NDArray[Any], count: int) -> Mask:
    """True for the `count` smallest entries; among equals the lower index first. Same shape."""
    flat = saliency.reshape(-1)
    chosen = np.zeros(flat.size, dtype=np.bool_)
    if count > 0:
        last = np.partition(flat, count - 1)[count - 1]
        chosen = flat < last
        ties = np.flatnonzero(flat == last)
        chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.reshape(saliency.shape)


def masks_by_variable(model: Any, cut: Any) -> dict[str, Mask]:
    """The masks of a cut by variable key, True where a weight stays; {} for a cut of units.

    Raises:
        EngineRefusal: a mask does not fit the model.
    """
    masks: Mapping[str, Mask] = {} if cut.is_structured else cut.masks
    _matching(model, masks)
    return dict(masks)


def _matching(model: Any, masks: Mapping[str, Mask]) -> dict[str, Any]:
    known = graph.variable_keys(model)
    for key, mask in masks.items():
        if key not in known or tuple(known[key].shape) != mask.shape:
            raise EngineRefusal(f"The mask of {key} does not fit model '{model.name}'.")
    return {key: known[key] for key in masks}


class Held:
    """A variable's constraint that also puts its pruned weights back to zero.

    Keras optimizers apply a variable's constraint after every update, whatever momentum or weight
    decay did to it. `inner` is the constraint the variable had before.
    """

    def __init__(self, mask: Mask, inner: Callable[[Any], Any] | None) -> None:
        self.inner = inner
        # Made eagerly once, so that compiled train steps capture it instead of copying it in.
        self._keep = keras.ops.convert_to_tensor(mask)

    def __call__(self, value: Any) -> Any:
        """`value` with zeros where the mask says so."""
        value = keras.ops.convert_to_tensor(value)
        if self.inner is not None:
            value = self.inner(value)
        return keras.ops.where(self._keep, value, keras.ops.zeros_like(value))


def constrain(model: Any, masks: Mapping[str, Mask]) -> None:
    """Zero the masked weights, and hold them at zero through every optimizer update.

    Raises:
        EngineRefusal: a mask does not fit the model.
    """
    for key, variable in _matching(model, masks).items():
        inner = variable.constraint
        held = Held(masks[key], inner.inner if isinstance(inner, Held) else inner)
        variable.assign(held(variable))
        variable.constraint = held
    _compile_anew(model)


def unconstrain(model: Any) -> None:
    """Give every variable the constraint back that it had before `constrain`."""
    for variable in graph.variable_keys(model).values():
        if isinstance(variable.constraint, Held):
            variable.constraint = variable.constraint.inner
    _compile_anew(model)


def _compile_anew(model: Any) -> None:
    # Keras reads constraints while tracing the train step, which `fit` keeps until told otherwise.
    if getattr(model, "train_function", None) is not None:
        model.train_function = None
