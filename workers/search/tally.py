"""How much a job has removed, beside how much its shares ask for."""

from app.domain.base import Record
from workers.engine import Cut


class Tally(Record):
    """Weights or units of the layers that may lose some, over the steps of a schedule."""

    total: int = 0
    """Before the first step."""
    removed: int = 0
    wanted: int | None = None
    """By the shares alone, rounded in each layer; None where layers compete."""

    def after(self, cut: Cut) -> "Tally":
        """The tally after one more step."""
        rows = cut.summary
        may = [row for row in rows if row.asked is not None or row.removed or row.note is None]
        removed = sum(row.removed for row in rows)
        gone = self.removed if cut.is_structured else 0
        shares = [row.asked for row in may]
        wanted = sum(share for share in shares if share is not None)
        return Tally(
            total=self.total or sum(row.before for row in may),
            removed=gone + removed,
            wanted=None if None in shares else gone + wanted,
        )
