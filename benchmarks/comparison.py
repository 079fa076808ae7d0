"""A table of two sides, and on how many of its rows Secateur is ahead."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One thing that is compared."""

    title: str
    theirs: float
    ours: float
    form: str
    """How to print it: `{:.2f}x`."""
    less: bool = True
    """Whether less is better."""
    level: float = 0.0
    """Relative difference up to which both count as ahead: where both were asked for the same."""

    @property
    def ahead(self) -> bool:
        """Whether ours is better, or as good where that is enough."""
        if self.theirs and abs(self.ours / self.theirs - 1.0) < self.level:
            return True
        return self.ours < self.theirs if self.less else self.ours > self.theirs


def print_table(title: str, peer: str, rows: Sequence[Row]) -> None:
    """Markdown."""
    print(f"| {title} | {peer} | Secateur | Ahead |\n|---|---|---|---|")
    for row in rows:
        both = f"{row.form.format(row.theirs)} | {row.form.format(row.ours)}"
        print(f"| {row.title} | {both} | {'yes' if row.ahead else 'NO'} |")


def print_sum(rows: Sequence[Row]) -> None:
    """The last line."""
    print(f"ahead on {sum(row.ahead for row in rows)} of {len(rows)}")
