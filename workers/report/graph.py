"""A model's graph as inline SVG: boxes and lines, no scripts, nothing from elsewhere."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.domain.analysis import AnalysedLayer
from workers.report.layout import Edge, Layout, Place, Route, lay_out

FOLD_ABOVE = 40
"""Graphs of more boxes are drawn with weightless layers folded into the one before them."""
MOST_BOXES, MOST_EDGES = 1200, 3000
"""Beyond these nobody could read it."""

WIDTH, LINE, PAD, GAP, GUTTER, TRACK = 196, 16, 7, 34, 26, 12
"""Pixels: of a box, a line of text, a box's margin, between ranks, between columns, of a track."""
NAME_LETTERS, TEXT_LETTERS = 23, 28

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold."""

Changes = Mapping[str, tuple[int | None, int | None]]


def draw(layers: Sequence[AnalysedLayer], edges: Sequence[Edge], changes: Changes) -> str:
    """The graph from top to bottom.

    Layers that lose units together share a colour; those that may lose none are grey, with the
    reason in their `<title>`.

    Args:
        layers: boxes, in the model's order. Their names come from uploads and are escaped.
        edges: [from, to] by name; a name without a layer gets a plain box.
        changes: units before and after by name; layers that did not change may be left out.

    Returns:
        An `<svg>` element, or a `<p>` that says that the graph is too large to draw.
    """
    by_name = {layer.name: layer for layer in layers}
    for name in (name for edge in edges for name in edge):
        by_name.setdefault(name, AnalysedLayer(name=name, class_name=""))
    folded = _folded(by_name, edges) if len(by_name) > FOLD_ABOVE else {}
    names = [name for name in by_name if name not in folded]
    shown = [(folded.get(a, a), folded.get(b, b)) for a, b in edges if b not in folded]
    if len(names) > MOST_BOXES or len(set(shown)) > MOST_EDGES:
        return f'<p class="quiet">A graph of {len(by_name):,} layers is too large to draw.</p>'
    hues = _hues(layers)
    inside: dict[str, list[AnalysedLayer]] = {name: [] for name in names}
    for name, maker in folded.items():
        inside[maker].append(by_name[name])
    boxes = {
        name: Box(by_name[name], tuple(inside[name]), changes.get(name), hues.get(name))
        for name in names
    }
    return _svg(boxes, lay_out(names, shown))


# --- what a box says ---------------------------------------------------------------------------
@dataclass(frozen=True)
class Box:
    """A layer, and those folded into it."""

    layer: AnalysedLayer
    folded: tuple[AnalysedLayer, ...]
    change: tuple[int | None, int | None] | None
    hue: int | None
    """Degrees on the colour wheel of the layers that it loses units with."""

    @property
    def lines(self) -> list[str]:
        """Name, class, units, folded layers; no line is empty."""
        layer = self.layer
        folded = ", ".join(dict.fromkeys(one.class_name for one in self.folded))
        lines = [
            _shortened(layer.name),
            _cut(layer.class_name),
            self.units,
            _cut(f"+ {folded}") if folded else "",
        ]
        return [lines[0], *(line for line in lines[1:] if line)]

    @property
    def units(self) -> str:
        """Units before → after, or as they are."""
        before, after = self.change or (self.layer.units, self.layer.units)
        heads = f"{self.layer.heads} heads" if self.layer.heads else ""
        if before is None:
            return heads
        said = f"{before:,} units" if after in (before, None) else f"{before:,} → {after:,} units"
        return f"{heads}, {said}" if heads else said

    @property
    def kept(self) -> float | None:
        """Share of the units that is left, where some went."""
        before, after = self.change or (None, None)
        return after / before if before and after is not None and after < before else None

    @property
    def kind(self) -> str:
        """Class of the drawing."""
        if self.layer.frozen and not self.layer.prunable:
            return "frozen"
        return "coupled" if self.hue is not None else "alone" if self.layer.prunable else "plain"

    @property
    def title(self) -> str:
        """Everything, for whoever points at it."""
        layer = self.layer
        shape = ", ".join("any" if size is None else str(size) for size in layer.output_shape or ())
        said = [
            f"{layer.name} ({layer.class_name})" if layer.class_name else layer.name,
            f"output [{shape}]" if shape else "",
            f"{layer.parameters:,} parameters, {layer.macs:,} MACs" if layer.parameters else "",
            f"{layer.prunable:,} of {layer.units:,} units may go" if layer.units else "",
            f"loses units together with {_listed(layer.coupled_with)}"
            if layer.coupled_with
            else "",
            f"stays: {layer.frozen}" if layer.frozen else "",
            *(f"then {one.name} ({one.class_name})" for one in self.folded),
        ]
        return "\n".join(line for line in said if line)


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _shortened(name: str) -> str:
    """The beginning and the end of a long name: names of a block differ at either."""
    if len(name) <= NAME_LETTERS:
        return name
    end = NAME_LETTERS // 2 - 1
    return f"{name[: NAME_LETTERS - end - 1]}…{name[-end:]}"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LETTERS else f"{text[: TEXT_LETTERS - 1]}…"


def _folded(layers: Mapping[str, AnalysedLayer], edges: Sequence[Edge]) -> dict[str, str]:
    """Layer → the layer before it that it is drawn with: no multiplications, nothing to say."""
    before: dict[str, set[str]] = {name: set() for name in layers}
    after: dict[str, set[str]] = {name: set() for name in layers}
    for source, target in edges:
        before[target].add(source)
        after[source].add(target)
    folded: dict[str, str] = {}
    for name, layer in layers.items():
        if layer.macs or layer.units is not None or layer.frozen or len(before[name]) != 1:
            continue
        (source,) = before[name]
        maker = _root(source, folded)
        if after[source] == {name} and maker != name:
            folded[name] = maker
    return {name: _root(name, folded) for name in folded}


def _root(name: str, parents: Mapping[str, str]) -> str:
    """Where a chain of parents ends; a cycle ends where it began."""
    seen = {name}
    while (parent := parents.get(name, name)) not in seen:
        seen.add(parent)
        name = parent
    return name


def _hues(layers: Sequence[AnalysedLayer]) -> dict[str, int]:
    """Layer → hue of the layers that it is coupled with, directly or through others."""
    parents: dict[str, str] = {}
    for layer in layers:
        for other in layer.coupled_with:
            a, b = _root(layer.name, parents), _root(other, parents)
            if a != b:
                parents[b] = a
    roots = {layer.name: _root(layer.name, parents) for layer in layers if layer.coupled_with}
    # Steps of the golden angle keep any number of hues apart.
    hues = {
        root: round(210 + 137.508 * index) % 360
        for index, root in enumerate(dict.fromkeys(roots.values()))
    }
    return {name: hues[root] for name, root in roots.items()}


# --- drawing -----------------------------------------------------------------------------------
class _Canvas:
    """Pixels of ranks and columns."""

    def __init__(self, boxes: Mapping[str, Box], layout: Layout) -> None:
        self.layout = layout
        ranks = 1 + max((place.rank for place in layout.places.values()), default=0)
        columns = 1 + max((place.column for place in layout.places.values()), default=0)
        self.heights = [0] * ranks
        for name, place in layout.places.items():
            tall = LINE * len(boxes[name].lines) + 2 * PAD
            self.heights[place.rank] = max(self.heights[place.rank], tall)
        self.tops = [GAP // 2]
        for height in self.heights:
            self.tops.append(self.tops[-1] + height + GAP)
        self.lefts = [GUTTER // 2]
        for column in range(columns):
            tracks = layout.tracks.get(column, 0)
            self.lefts.append(self.lefts[-1] + WIDTH + GUTTER + TRACK * tracks)

    def middle(self, column: int) -> int:
        return self.lefts[column] + WIDTH // 2

    def track(self, route: Route) -> int:
        return self.lefts[route.column] + WIDTH + GUTTER // 2 + TRACK * route.track

    def path(self, route: Route) -> str:
        """The `d` of an edge's path."""
        start, end = (self.layout.places[name] for name in route.edge)
        if route.kind == "back":
            return self._back(route, start, end)
        x, y = self.middle(start.column), self.tops[start.rank] + self.heights[start.rank]
        to_x, to_y = self.middle(end.column), self.tops[end.rank]
        if route.kind == "near":
            return f"M{x} {y}{_curve(x, y, to_x, to_y)}"
        via = self.track(route) if route.kind == "track" else self.middle(route.column)
        down, last = y + GAP, to_y - GAP
        return f"M{x} {y}{_curve(x, y, via, down)}L{via} {last}{_curve(via, last, to_x, to_y)}"

    def _back(self, route: Route, start: Place, end: Place) -> str:
        """From the right side of one box to that of another above it, or to its own."""
        x, to_x = (self.lefts[place.column] + WIDTH for place in (start, end))
        y = self.tops[start.rank] + 3 * self.heights[start.rank] // 4
        to_y = self.tops[end.rank] + self.heights[end.rank] // 4
        via = self.track(route)
        return f"M{x} {y}L{via} {y}L{via} {to_y}L{to_x} {to_y}"


def _curve(x: int, y: int, to_x: int, to_y: int) -> str:
    middle = (y + to_y) // 2
    return f"L{x} {to_y}" if x == to_x else f"C{x} {middle} {to_x} {middle} {to_x} {to_y}"


def _svg(boxes: Mapping[str, Box], layout: Layout) -> str:
    canvas = _Canvas(boxes, layout)
    width, height = canvas.lefts[-1], canvas.tops[-1] - GAP // 2
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" aria-label="The model\'s graph">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
            *_edges_drawn(canvas),
            *(_box_drawn(box, canvas, layout.places[name]) for name, box in boxes.items()),
            "</svg>",
        )
    )


def _edges_drawn(canvas: _Canvas) -> Iterator[str]:
    for route in canvas.layout.routes:
        kind = "edge again" if route.kind == "back" else "edge"
        yield f'<path class="{kind}" d="{canvas.path(route)}" marker-end="url(#arrow)"/>'


def _box_drawn(box: Box, canvas: _Canvas, place: Place) -> str:
    height = canvas.heights[place.rank]
    hue = f' style="--hue: {box.hue}"' if box.kind == "coupled" else ""
    texts = "".join(
        f'<text class="{"name" if index == 0 else "line"}" x="{PAD + 1}" '
        f'y="{PAD + LINE * index + 12}">{_escaped(line)}</text>'
        for index, line in enumerate(box.lines)
    )
    kept, inner = box.kept, WIDTH - 2 * PAD
    bar = (
        f'<rect class="kept" x="{PAD}" y="{height - 5}" width="{round(inner * kept)}" height="3"/>'
        if kept is not None
        else ""
    )
    x, y = canvas.lefts[place.column], canvas.tops[place.rank]
    # The inner svg clips what is wider than the box.
    return (
        f'<g class="box {box.kind}"{hue} transform="translate({x} {y})">'
        f"<title>{_escaped(box.title)}</title>"
        f'<rect class="frame" width="{WIDTH}" height="{height}" rx="6"/>{bar}'
        f'<svg width="{WIDTH - PAD}" height="{height}">{texts}</svg></g>'
    )


def _escaped(text: str) -> str:
    return html.escape(UNPRINTABLE.sub("\ufffd", text))
