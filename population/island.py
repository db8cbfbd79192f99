"""Islands: who lives where at the end of a generation, and the random streams that belong to them.

A stream derives from the search's seed and a place in the search alone, never from who finished first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from population.errors import PopulationError
from population.jsontext import plain


@dataclass(frozen=True)
class Island:
    """One island as a generation left it.

    `population` and `archive` are ids, best first; an individual may live on several islands. Raises
    PopulationError where an id comes twice.
    """

    number: int
    population: tuple[str, ...] = ()
    archive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", int(self.number))
        for name in ("population", "archive"):
            identities = tuple(getattr(self, name))
            object.__setattr__(self, name, identities)
            if len(set(identities)) < len(identities):
                raise PopulationError(
                    f"island {self.number}: an individual is twice in its {name}. Keep it once."
                )


@dataclass(frozen=True)
class Generation:
    """All islands, in the order of their numbers, as generation `number` left them.

    `summary` is JSON, for reports and the status.
    """

    number: int
    islands: tuple[Island, ...]
    summary: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        islands = tuple(sorted(self.islands, key=lambda island: island.number))
        object.__setattr__(self, "islands", islands)
        object.__setattr__(self, "summary", plain(self.summary))
        if len({island.number for island in islands}) < len(islands):
            raise PopulationError(
                f"generation {self.number}: an island comes twice. Give each its own number."
            )

    def island(self, number: int) -> Island:
        for island in self.islands:
            if island.number == number:
                return island
        known = ", ".join(str(island.number) for island in self.islands)
        raise PopulationError(f"generation {self.number} has no island {number}. Its islands: {known}.")


def child_stream(seed: int, generation: int, island: int, child: int) -> np.random.Generator:
    """The stream that belongs to one birth alone: children made at the same time do not disturb
    each other's.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(generation, island, child)))
