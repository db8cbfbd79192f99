"""Migration on a ring: the elites of each island settle on the next one and stay at home as well.

An individual that lives on two islands is one individual with one id: nothing is copied, and a child of it
has one parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Migration(NamedTuple):
    """In `generation`, `individual` settled from island `origin` on island `target`."""

    generation: int
    individual: str
    origin: int
    target: int


def ring_migration(
    generation: int, populations: Mapping[int, Sequence[str]], elites: Mapping[int, Sequence[str]]
) -> tuple[list[Migration], dict[int, tuple[str, ...]]]:
    """Send each island's `elites` to the next island of the ring (in the order of numbers, the last one's to
    the first).

    All leave at once: an arrival does not travel on in the same generation. Who lives on the target already
    does not move. Returns the moves, in the order of origin and elite, and the populations with the newcomers
    last: who makes room is selection's choice, not migration's. A single island sends nobody.
    """
    numbers = sorted(populations)
    settled = {number: tuple(populations[number]) for number in numbers}
    moves: list[Migration] = []
    if len(numbers) < 2:
        return moves, settled
    for position, origin in enumerate(numbers):
        target = numbers[(position + 1) % len(numbers)]
        for individual in elites.get(origin, ()):
            if individual not in settled[target]:
                settled[target] = (*settled[target], individual)
                moves.append(Migration(generation, individual, origin, target))
    return moves, settled
