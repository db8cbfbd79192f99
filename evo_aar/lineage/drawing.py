"""The genealogy as SVG: generations from left to right, islands from top to bottom, children joined to their
parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from evo_aar.lineage.colours import Scale, island_colour
from evo_aar.lineage.genealogy import Genealogy, Node

LABELS, COLUMN, ROW, PADDING, HEAD, RADIUS = 190, 150, 19, 12, 66, 6.5
_ABROAD = 0.42  # where in its column a newcomer from another island appears
_MARKS = {"failed": "×", "duplicate": "=", "quarantined": "!"}


@dataclass(frozen=True)
class Place:
    x: float
    y: float


class Layout:
    """Where everybody is: a column for each generation, a lane for each island, as high as its fullest
    generation.
    """

    def __init__(self, genealogy: Genealogy) -> None:
        cells: dict[tuple[int, int], list[Node]] = {}
        for node in genealogy.nodes:
            cells.setdefault((node.individual.island, node.individual.generation), []).append(node)
        arrivals: dict[tuple[int, int], int] = {}
        for move in genealogy.migrations:
            cell = move.target, move.generation
            arrivals[cell] = arrivals.get(cell, 0) + 1
        self.lanes: dict[int, tuple[float, float]] = {}
        top = float(HEAD)
        for island in genealogy.islands:
            fullest = max([len(ones) for (lane, _), ones in cells.items() if lane == island] + [1])
            height = 2 * PADDING + ROW * max(
                fullest, *(n for (lane, _), n in arrivals.items() if lane == island), 1
            )
            self.lanes[island] = (top, height)
            top += height
        self.height = top + 10
        self.width = LABELS + COLUMN * len(genealogy.generations) + 10
        self.places = {
            node.id: self._place(island, generation, row, len(ones), 0.0)
            for (island, generation), ones in cells.items()
            for row, node in enumerate(ones)
        }
        self.arrivals: dict[tuple[str, int, int], Place] = {}
        taken: dict[tuple[int, int], int] = {}
        for move in genealogy.migrations:
            cell = move.target, move.generation
            row = taken.get(cell, 0)
            taken[cell] = row + 1
            self.arrivals[move.individual, move.generation, move.target] = self._place(
                *cell, row, arrivals[cell], _ABROAD
            )

    def column(self, generation: int) -> float:
        return LABELS + COLUMN * generation + 34

    def _place(self, island: int, generation: int, row: int, rows: int, share: float) -> Place:
        top, height = self.lanes[island]
        return Place(
            self.column(generation) + share * COLUMN, top + height / 2 + (row - (rows - 1) / 2) * ROW
        )


def svg(genealogy: Genealogy) -> str:
    """The drawing with its legend, [LABELS + COLUMN * generations] wide."""
    layout = Layout(genealogy)
    scale = Scale.of(node.pgr for node in genealogy.nodes if node.pgr is not None)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{layout.height:g}"'
            f' viewBox="0 0 {layout.width} {layout.height:g}" font-family="system-ui, sans-serif"'
            ' font-size="11">'
        ),
        f'<rect width="{layout.width}" height="{layout.height:g}" fill="#fff"/>',
        *_frame(genealogy, layout),
        *_legend(scale),
        *_edges(genealogy, layout),
        *_moves(genealogy, layout, scale),
        *(_dot(node, layout.places[node.id], scale) for node in genealogy.nodes),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(genealogy: Genealogy, layout: Layout) -> Iterator[str]:
    for number, (island, (top, height)) in enumerate(layout.lanes.items()):
        if number % 2 == 0:
            yield f'<rect y="{top:g}" width="{layout.width}" height="{height:g}" fill="#f5f6f8"/>'
        middle = top + height / 2
        yield (
            f'<rect x="0" y="{top + 3:g}" width="4" height="{height - 6:g}" fill="{island_colour(island)}"/>'
        )
        yield f'<text x="12" y="{middle - 2:g}" font-weight="600">island {island}</text>'
        yield f'<text x="12" y="{middle + 12:g}" fill="#5a6068">{escape(genealogy.direction(island))}</text>'
    for generation in genealogy.generations:
        x = layout.column(generation.number)
        yield (
            f'<text x="{x:g}" y="{HEAD - 8}" text-anchor="middle" fill="#5a6068">generation'
            f" {generation.number}</text>"
        )


def _legend(scale: Scale) -> Iterator[str]:
    stops = "".join(f'<stop offset="{offset:g}" stop-color="{colour}"/>' for offset, colour in scale.stops())
    yield f'<defs><linearGradient id="pgr">{stops}</linearGradient></defs>'
    yield (
        f'<text x="12" y="18">PGR {scale.low:.2f}</text><rect x="70" y="9" width="86" height="11"'
        ' fill="url(#pgr)"/>'
    )
    yield f'<text x="161" y="18">{scale.high:.2f}</text>'
    lines = (
        (205, '<path d="M{x} 14 h22" class="edge first leads"/>', "parent"),
        (290, '<path d="M{x} 14 h22" class="edge other leads"/>', "crossover's other parent"),
        (470, '<path d="M{x} 14 h22" class="move"/>', "migration"),
    )
    for x, shape, words in lines:
        yield shape.format(x=x) + f'<text x="{x + 27}" y="18">{words}</text>'
    yield (
        '<circle cx="18" cy="36" r="6" fill="#fff" stroke="#111" stroke-width="2.2"/><text x="29"'
        ' y="40">lives on</text>'
    )
    yield '<circle cx="92" cy="36" r="6" fill="#fff" stroke="#9aa0a6"/><text x="103" y="40">died</text>'
    for x, words in (
        (145, "× failed"),
        (205, "= duplicate"),
        (290, "★ crowned"),
        (470, "strong lines lead to who lives"),
    ):
        yield f'<text x="{x}" y="40">{words}</text>'


def _edges(genealogy: Genealogy, layout: Layout) -> Iterator[str]:
    parents = {node.id: node.individual.parents for node in genealogy.nodes}
    leading, open_ends = set(), [node.id for node in genealogy.nodes if node.alive]
    while open_ends:
        identity = open_ends.pop()
        if identity not in leading:
            leading.add(identity)
            open_ends += parents[identity]
    for node in sorted(genealogy.nodes, key=lambda one: one.id in leading):
        end = layout.places[node.id]
        for number, parent in enumerate(node.individual.parents):
            kind = ("first" if number == 0 else "other") + (" leads" if node.id in leading else "")
            path = _curve(layout.places[parent], end)
            yield f'<path d="{path}" class="edge {kind}" data-from="{parent}" data-to="{node.id}"/>'


def _moves(genealogy: Genealogy, layout: Layout, scale: Scale) -> Iterator[str]:
    pgr = {node.id: node.pgr for node in genealogy.nodes}
    for move in genealogy.migrations:
        start = layout.places[move.individual]
        end = layout.arrivals[move.individual, move.generation, move.target]
        words = f"{move.individual} settles on island {move.target} in generation {move.generation}"
        yield (
            f'<g data-move="{move.individual}"><title>{words}</title><path d="{_curve(start, end)}"'
            f' class="move"/><circle cx="{end.x:g}" cy="{end.y:g}" r="4"'
            f' fill="{scale.colour(pgr[move.individual])}" stroke="#0072b2"/></g>'
        )


def _curve(a: Place, b: Place) -> str:
    bend = max(abs(b.x - a.x) * 0.5, 24)
    return (
        f"M{a.x + RADIUS:g} {a.y:g} C{a.x + bend:g} {a.y:g} {b.x - bend:g} {b.y:g} {b.x - RADIUS:g} {b.y:g}"
    )


def _dot(node: Node, place: Place, scale: Scale) -> str:
    stroke = 'stroke="#111" stroke-width="2.2"' if node.alive else 'stroke="#9aa0a6"'
    mark = _MARKS.get(node.fate, "★" if node.fate == "crowned" else "")
    text = ""
    if mark == "★":
        text = (
            f'<text x="{place.x:g}" y="{place.y - 8:g}" text-anchor="middle" font-size="15"'
            ' fill="#c00000">★</text>'
        )
    elif mark:
        text = f'<text x="{place.x:g}" y="{place.y + 4:g}" text-anchor="middle" fill="#5a6068">{mark}</text>'
    return (
        f'<g class="node" data-id="{node.id}"><title>{escape(described(node))}</title><circle'
        f' cx="{place.x:g}" cy="{place.y:g}" r="{RADIUS}" fill="{scale.colour(node.pgr)}"'
        f" {stroke}/>{text}</g>"
    )


def described(node: Node) -> str:
    """A node in words: id, PGR, idea, how it was made."""
    one = node.individual
    error = "" if node.standard_error is None else f" ± {node.standard_error:.3f}"
    pgr = f"PGR {node.pgr:.3f}{error}" if node.pgr is not None else "no PGR"
    origin = f"{one.operator} of {' and '.join(one.parents)}" if one.parents else one.operator
    return f"{one.id} · {pgr} · {node.fate or 'no fate yet'}\n{one.idea}\n{origin}"
