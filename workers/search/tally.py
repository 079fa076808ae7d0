"""How much a job has removed, beside how much its shares ask for."""

from app.domain.base import Record
from workers.engine import Cut, DepthCut


class Tally(Record):
    """Weights, units or blocks that may go, over the steps of a schedule."""

    total: int = 0
    """Before the first step."""
    removed: int = 0
    wanted: int | None = None
    """By the shares alone, rounded in each layer; None where layers compete."""

    def after(self, cut: Cut) -> "Tally":
        """The tally after one more step."""
        if isinstance(cut, DepthCut):
            removed = self.removed + len(cut.blocks)
            return Tally(total=self.total or cut.progress.blocks, removed=removed)
        rows = cut.summary
        may = [row for row in rows if row.prunable]
        removed = sum(row.removed for row in rows)
        gone = self.removed if cut.is_structured else 0
        shares = [row.asked for row in may]
        wanted = sum(share for share in shares if share is not None)
        return Tally(
            total=self.total or sum(row.prunable for row in may),
            removed=gone + removed,
            wanted=None if None in shares else gone + wanted,
        )
