"""Migration: the elites of an island settle on the islands that a route leads to, and stay at home as well.

An individual that lives on two islands is one individual with one id: nothing is copied, and a child of it
has one parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Route = tuple[int, int]
"""From the island of origin to the target."""


class Migration(NamedTuple):
    """In `generation`, `individual` settled from island `origin` on island `target`."""

    generation: int
    individual: str
    origin: int
    target: int


def ring(islands: Iterable[int]) -> list[Route]:
    """Each island's route to the next one, in the order of numbers, the last one's to the first.

    A single island has none.
    """
    numbers = sorted(islands)
    return list(zip(numbers, numbers[1:] + numbers[:1], strict=True)) if len(numbers) > 1 else []


def migrate(
    generation: int,
    populations: Mapping[int, Sequence[str]],
    elites: Mapping[int, Sequence[str]],
    routes: Iterable[Route],
) -> tuple[list[Migration], dict[int, tuple[str, ...]]]:
    """Send each island's `elites` along `routes`.

    All leave at once: an arrival does not travel on in the same generation. Who lives on the target already
    does not move. Returns the moves, in the order of routes and elites, and the populations with the
    newcomers last: who makes room is selection's choice, not migration's.
    """
    settled = {number: tuple(populations[number]) for number in sorted(populations)}
    moves: list[Migration] = []
    for origin, target in routes:
        for individual in elites.get(origin, ()):
            if individual not in settled[target]:
                settled[target] = (*settled[target], individual)
                moves.append(Migration(generation, individual, origin, target))
    return moves, settled
