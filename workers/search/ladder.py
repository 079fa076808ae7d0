"""The cuts of a model that the engine can choose, by how much they keep."""

import math
from collections.abc import Callable
from typing import Any

from app.domain.errors import EngineRefusal
from app.domain.prune import FractionTarget, MacsTarget, ParametersTarget, Prune
from workers import engine
from workers.search.seek import NAMES, Candidate, Lever

Choose = Callable[[Prune], engine.Cut]
"""`engine.choose` for the original model, with everything but the spec filled in."""
ALL = math.nextafter(1.0, 0.0)
"""As a share to remove: everything that may go."""
STEPS = 12
"""Bisections on the way to the smallest choice that the engine takes."""


class Ladder:
    """Cuts of one model under one spec; the engine's `parameters` and `macs` targets find them."""

    def __init__(self, model: Any, prune: Prune, lever: Lever, choose: Choose) -> None:
        """Raises `EngineRefusal` where the model has none of what the lever turns."""
        counts = engine.count(model)
        self._model, self._prune, self._lever, self._choose = model, prune, lever, choose
        self.original = Candidate(1.0, counts.parameters, counts.macs)
        self._whole = counts.parameters if lever == "parameters" else counts.macs
        if self._whole < 1:
            raise EngineRefusal(
                f"The model has no {NAMES[lever]}, so that removing some cannot reach the target."
            )

    def equivalent(self, size: int) -> Prune:
        """The spec with the target that keeps at most `size` parameters or MACs."""
        # Half of one above, so that rounding cannot push a choice of exactly this size out.
        keep = (size + 0.5) / self._whole
        kind = ParametersTarget if self._lever == "parameters" else MacsTarget
        return self._prune.model_copy(update={"target": kind(keep=keep)})

    def at_most(self, size: int) -> Candidate | None:
        """The largest choice that keeps at most `size`; None where the engine has none."""
        if not 0 <= size < self._whole:
            return None
        try:
            cut = self._choose(self.equivalent(size))
        except EngineRefusal:
            return None
        return self._foreseen(cut)

    def floor(self) -> Candidate:
        """The smallest choice. Raises `EngineRefusal` where nothing can be removed at all."""
        everything = self._prune.model_copy(update={"target": FractionTarget(remove=ALL)})
        deepest = self.size(self._foreseen(self._choose(everything)))
        found = self.at_most(deepest)
        if found is not None:
            return found
        # Budgets keep multiples of units, which a share does not: their floor lies higher.
        low, high = deepest, self._whole - 1
        best = self.at_most(high)
        if best is None:
            # Says why.
            return self._foreseen(self._choose(self.equivalent(high)))
        for _ in range(STEPS):
            high = self.size(best)
            middle = math.isqrt(max(low, 1) * high)
            if not low < middle < high:
                break
            found = self.at_most(middle)
            low, best = (middle, best) if found is None else (low, found)
        return best

    def size(self, candidate: Candidate) -> int:
        """Parameters or MACs that a candidate keeps."""
        return candidate.parameters if self._lever == "parameters" else candidate.macs

    def _foreseen(self, cut: engine.Cut) -> Candidate:
        counts = engine.predict(self._model, cut)
        left = counts.parameters if self._lever == "parameters" else counts.macs
        return Candidate(left / self._whole, counts.parameters, counts.macs, cut)
