"""The individuals of generation 0: each island's direction has its seed recipe."""

from __future__ import annotations

from evo_aar.search.record import BirthRecord, BirthStory
from population.individual import Individual
from recipes.directions import Direction
from recipes.source import idea, source_hash


def seed_individual(island: int, direction: Direction) -> Individual:
    """The direction's seed recipe as it is born on an island."""
    return Individual.born(
        generation=0,
        island=island,
        child=0,
        source=direction.seed_source,
        source_hash=source_hash(direction.seed_source),
        operator="seed",
        idea=idea(direction.seed_source),
        detail=BirthRecord(story=BirthStory(direction.name)).to_json(),
    )
