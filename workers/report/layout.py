"""Where a graph's boxes and lines go: a rank per step from the inputs, a column per branch.

Ranks come from longest paths. A box stands below what it reads; where several read the same, the
longest branch stays in the column and the others move beside it. A line over more than one rank
runs down a free column, or down a track in the gutter beside one. Few crossings are not promised.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

Edge = tuple[str, str]


@dataclass(frozen=True)
class Place:
    """A box's rank, from 0 at the top, and its column, from 0 at the left."""

    rank: int
    column: int


@dataclass(frozen=True)
class Route:
    """How an edge runs.

    `near`: from one rank to the next. `column`: down the middle of a column. `track`: down a
    track in the gutter right of a column. `back`: up such a track, where a layer is called again.
    """

    edge: Edge
    kind: Literal["near", "column", "track", "back"]
    column: int = 0
    track: int = 0


@dataclass(frozen=True)
class Layout:
    """All places and routes."""

    places: Mapping[str, Place]
    routes: tuple[Route, ...]
    tracks: Mapping[int, int]
    """How many tracks the gutter right of a column has."""


def lay_out(names: Sequence[str], edges: Iterable[Edge]) -> Layout:
    """Places of all `names` and routes of the edges between them, the same for the same input.

    Args:
        names: boxes, in an order that settles ties.
        edges: [from, to]; both ends are among `names`. Cycles are allowed: a layer may be shared.
    """
    graph = _Graph(names, tuple(dict.fromkeys(edges)))
    rank, height = graph.ranks(), graph.heights()
    position = {name: index for index, name in enumerate(names)}
    board = _Board()
    for name in sorted(names, key=lambda n: (rank[n], -height[n], position[n])):
        board.place(name, rank[name], graph.before[name])
    for source, target in sorted(graph.back, key=lambda edge: position[edge[0]]):
        board.route_back(source, target)
    tracks = {column: len(gutter) for column, gutter in board.gutters.items()}
    return Layout(board.places, tuple(board.routes), tracks)


class _Graph:
    """The edges without those that close a cycle."""

    def __init__(self, names: Sequence[str], edges: Sequence[Edge]) -> None:
        self.order, self.back = _sorted(names, edges)
        self.before: dict[str, list[str]] = {name: [] for name in names}
        self.after: dict[str, list[str]] = {name: [] for name in names}
        for source, target in edges:
            if (source, target) not in self.back:
                self.before[target].append(source)
                self.after[source].append(target)

    def ranks(self) -> dict[str, int]:
        """Longest path from an input; an input stands right above its first reader."""
        rank: dict[str, int] = {}
        for name in self.order:
            rank[name] = max((rank[one] + 1 for one in self.before[name]), default=0)
        for name in self.order:
            if not self.before[name] and self.after[name]:
                rank[name] = min(rank[one] for one in self.after[name]) - 1
        return rank

    def heights(self) -> dict[str, int]:
        """Longest path to an output."""
        height: dict[str, int] = {}
        for name in reversed(self.order):
            height[name] = max((height[one] + 1 for one in self.after[name]), default=0)
        return height


def _sorted(names: Sequence[str], edges: Sequence[Edge]) -> tuple[list[str], frozenset[Edge]]:
    """Each name after those it depends on, and the edges that had to be ignored for that."""
    position = {name: index for index, name in enumerate(names)}
    left: dict[str, set[str]] = {name: set() for name in names}
    after: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        left[target].add(source)
        after[source].append(target)
    ready = [position[name] for name in names if not left[name]]
    heapq.heapify(ready)
    order: list[str] = []
    back: set[Edge] = set()
    done: set[str] = set()
    remaining = iter(names)
    while len(order) < len(names):
        if ready:
            name = names[heapq.heappop(ready)]
        else:
            # A cycle: go on with the first that is left, as if it did not depend on the others.
            name = next(one for one in remaining if one not in done)
            back |= {(source, name) for source in left[name]}
            left[name].clear()
        order.append(name)
        done.add(name)
        for target in after[name]:
            if name in left[target]:
                left[target].remove(name)
                if not left[target]:
                    heapq.heappush(ready, position[target])
    return order, frozenset(back)


@dataclass
class _Board:
    """What stands where, filled from the top."""

    places: dict[str, Place] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    taken: dict[tuple[int, int], str] = field(default_factory=dict)
    """(column, rank) → the box there, or the box whose line passes there."""
    gutters: defaultdict[int, list[list[tuple[int, int, str]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Column → tracks → (first rank, last rank, the box whose line it is)."""

    def place(self, name: str, rank: int, sources: Sequence[str]) -> None:
        """Put a box below what it reads, and draw the lines to it."""
        wanted = min((self.places[one].column for one in sources), default=0)
        column = next(c for c in _outwards(wanted) if (c, rank) not in self.taken)
        self.places[name] = Place(rank, column)
        self.taken[column, rank] = name
        for source in sources:
            self._route(source, name)

    def _route(self, source: str, target: str) -> None:
        start, end = self.places[source], self.places[target]
        between = range(start.rank + 1, end.rank)
        if not between:
            self.routes.append(Route((source, target), "near"))
            return
        for column in (start.column, end.column):
            if all(self.taken.get((column, rank), source) == source for rank in between):
                self.taken |= {(column, rank): source for rank in between}
                self.routes.append(Route((source, target), "column", column))
                return
        column = min(start.column, end.column)
        track = self._track(column, start.rank, end.rank, source)
        self.routes.append(Route((source, target), "track", column, track))

    def route_back(self, source: str, target: str) -> None:
        """Draw a line that closes a cycle."""
        start, end = self.places[source], self.places[target]
        column = max(start.column, end.column)
        first, last = sorted((start.rank, end.rank))
        track = self._track(column, first - 1, last + 1, f"{source} again")
        self.routes.append(Route((source, target), "back", column, track))

    def _track(self, column: int, first: int, last: int, owner: str) -> int:
        """The first track that is free there, or is the owner's own."""
        tracks = self.gutters[column]
        for index, track in enumerate(tracks):
            if all(one == owner or first >= b or a >= last for a, b, one in track):
                track.append((first, last, owner))
                return index
        tracks.append([(first, last, owner)])
        return len(tracks) - 1


def _outwards(column: int) -> Iterator[int]:
    """The column, then its neighbours, the right one first; none is below 0."""
    yield column
    for distance in count(1):
        yield column + distance
        if distance <= column:
            yield column - distance
