"""PGR by generation, as SVG: the best of each island, and of the search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from evo_aar.lineage.colours import island_colour
from evo_aar.lineage.genealogy import Genealogy
from evo_aar.lineage.ticks import ticks
from evo_aar.search.record import GenerationRecord

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 780, 420, 56, 230, 34, 44
_GAP = 16.0
Series = list[tuple[int, float]]


def pgr_chart(genealogy: Genealogy) -> str:
    """The best PGR of each island by generation, and the search's best with its standard error."""
    islands = {island: _series(genealogy, island) for island in genealogy.islands}
    figures = [(g.number, GenerationRecord.of(g).figures) for g in genealogy.generations]
    best = [(number, one.best_pgr, one.best_se or 0.0) for number, one in figures if one.best_pgr is not None]
    values = [value for series in islands.values() for _, value in series]
    values += [value + sign * error for _, value, error in best for sign in (-1, 1)]
    marks = ticks(min(values, default=0.0), max(values, default=1.0))
    last = max(genealogy.generations[-1].number, 1)

    def at(number: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * number / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (marks[-1] - value) / (marks[-1] - marks[0])

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH}'
            f' {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="600">Best PGR by generation</text>',
        *_axes(marks, last, at),
    ]
    band = [at(n, v + e) for n, v, e in best] + [at(n, v - e) for n, v, e in reversed(best)]
    if len(best) > 1:
        parts.append(f'<polygon points="{_joined(band)}" fill="#111" opacity=".10"/>')
    labels = []
    for island, series in islands.items():
        spots = [at(*point) for point in series]
        if spots:
            parts += _line(spots, island_colour(island), 1.8)
            labels.append(
                (spots[-1], f"{island} {genealogy.direction(island)}".strip(), island_colour(island), "400")
            )
    if best:
        spots = [at(n, v) for n, v, _ in best]
        parts += _line(spots, "#111", 2.6)
        labels.append((spots[-1], f"search {best[-1][1]:.3f} ± {best[-1][2]:.3f}", "#111", "600"))
    parts += _labels(labels)
    return "\n".join([*parts, "</svg>"])


def _series(genealogy: Genealogy, island: int) -> Series:
    records = [(g.number, GenerationRecord.of(g).figures.islands.get(island)) for g in genealogy.generations]
    return [(number, one.best_pgr) for number, one in records if one and one.best_pgr is not None]


def _axes(
    marks: Sequence[float], last: int, at: Callable[[float, float], tuple[float, float]]
) -> Iterator[str]:
    for mark in marks:
        (x, y), (end, _) = at(0, mark), at(last, mark)
        yield f'<path d="M{x:g} {y:g} H{end:g}" stroke="{"#9aa0a6" if mark == 0 else "#e3e6ea"}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end" fill="#5a6068">{mark:g}</text>'
    every = max(1, math.ceil(last / 12))
    for number in range(0, last + 1, every):
        x, y = at(number, marks[0])
        yield f'<text x="{x:g}" y="{y + 18:g}" text-anchor="middle" fill="#5a6068">{number}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle" fill="#5a6068">generation</text>'


def _line(spots: Sequence[tuple[float, float]], colour: str, width: float) -> Iterator[str]:
    yield (
        f'<polyline points="{_joined(spots)}" fill="none" stroke="{colour}" stroke-width="{width}"'
        ' stroke-linejoin="round"/>'
    )
    for x, y in spots:
        yield f'<circle cx="{x:g}" cy="{y:g}" r="{width + 1:g}" fill="{colour}"/>'


def _labels(labels: list[tuple[tuple[float, float], str, str, str]]) -> Iterator[str]:
    """Names at the lines' ends, moved apart where they would cover one another."""
    labels = sorted(labels, key=lambda one: one[0][1])
    heights: list[float] = []
    for (_, y), *_ in labels:
        heights.append(max(y, heights[-1] + _GAP) if heights else y)
    over = max(heights, default=0.0) - (HEIGHT - BOTTOM)
    if over > 0:
        heights = [height - over for height in heights]
    for ((x, y), words, colour, weight), height in zip(labels, heights, strict=True):
        yield (
            f'<path d="M{x + 5:g} {y:g} L{WIDTH - RIGHT + 20} {height:g}" stroke="{colour}" opacity=".45"'
            ' fill="none"/>'
        )
        yield (
            f'<text x="{WIDTH - RIGHT + 24}" y="{height + 4:g}" fill="{colour}"'
            f' font-weight="{weight}">{escape(words)}</text>'
        )


def _joined(spots: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in spots)
