"""A search's genealogy, as what is drawn of it."""

from __future__ import annotations

from dataclasses import dataclass

from evo_aar.search.record import GenerationRecord
from population.individual import Individual
from population.island import Generation
from population.migration import Migration


@dataclass(frozen=True)
class Node:
    """An individual and how it did: `pgr` is None where it failed or is a duplicate; `alive` on any island in
    the last generation.
    """

    individual: Individual
    pgr: float | None = None
    standard_error: float | None = None
    fate: str = ""
    alive: bool = False

    @property
    def id(self) -> str:
        return self.individual.id


@dataclass(frozen=True)
class Genealogy:
    """Everyone born up to the last of `generations`, in the order of birth, and who moved where."""

    nodes: tuple[Node, ...]
    migrations: tuple[Migration, ...]
    generations: tuple[Generation, ...]

    @property
    def islands(self) -> list[int]:
        return [island.number for island in self.generations[-1].islands]

    def direction(self, island: int) -> str:
        figures = GenerationRecord.of(self.generations[-1]).figures.islands.get(island)
        return figures.direction.replace("_", " ") if figures else ""
