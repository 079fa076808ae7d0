"""A kernel in the pieces that a granularity removes: weights, or blocks of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.prune import NmGranularity
from workers.engine.masks import Mask, most, removal_count
from workers.engine.overrides import Wish
from workers.engine.patterns import Blocks, Matrix, n_of_m


@dataclass(frozen=True)
class Kernel:
    """A kernel that is to lose pieces: single weights, or with `blocks` whole blocks."""

    key: str
    saliency: NDArray[Any]
    """Of each piece, in the pieces' shape."""
    pruned: Mask | None
    """Pieces that are gone already."""
    nonzero: NDArray[Any]
    """Of each piece, how many of its weights are not zero."""
    wish: Wish
    matrix: Matrix | None = None
    """None with granularity weight, which looks at no axes."""
    blocks: Blocks | None = None

    @property
    def size(self) -> int:
        """Number of pieces."""
        return self.saliency.size

    @cached_property
    def zeros(self) -> int:
        """How many pieces are zero throughout."""
        return self.size - int(np.count_nonzero(self.nonzero))

    def weights(self, pieces: Mask) -> Mask:
        """A mask of pieces as a mask of the kernel's entries."""
        return pieces if self.blocks is None else self.blocks.spread(pieces)

    @property
    def cap(self) -> int:
        """How many may go at most."""
        limit = self.wish.max_remove
        return self.size if limit is None else most(limit, self.size)

    def asked(self, share: float, step: float) -> int:
        """How many the share alone asks for, or the layer's own share at this step."""
        own = self.wish.remove
        return removal_count(share if own is None else step * own, self.size)

    def count(self, share: float, step: float) -> int:
        """How many go: what is gone stays gone, and max_remove holds."""
        gone = 0 if self.pruned is None else int(self.pruned.sum())
        return max(gone, min(self.asked(share, step), self.cap))

    def n_of_m(self, pattern: NmGranularity, share: float, max_remove: float | None) -> Mask:
        """The weights that go by n:m, in the kernel's shape; see `patterns.n_of_m`."""
        assert self.matrix is not None
        folded = self.matrix.fold(self.saliency)
        return self.matrix.unfold(n_of_m(folded, pattern.n, pattern.m, share, max_remove))
