"""Where a recipe comes from: its ancestors, and what each changed of the parent that it was made from."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from population.fitness import Fitness
from population.individual import Individual
from population.store import Store


@dataclass(frozen=True)
class Ancestor:
    """An individual of a lineage.

    `diff`: its source against its first parent's, "" for a seed recipe; `fitness` over the search's seeds.
    """

    individual: Individual
    fitness: Fitness | None
    diff: str


def ancestry(store: Store, individual: Individual, testbed: str, seeds: Sequence[int]) -> list[Ancestor]:
    """The individual and all its ancestors, the youngest first."""
    found: dict[str, Individual] = {}
    open_ids = [individual.id]
    while open_ids:
        identity = open_ids.pop()
        if identity not in found:
            found[identity] = store.individuals.get(identity)
            open_ids += found[identity].parents
    ranked = sorted(found.values(), key=lambda one: one.rank, reverse=True)
    return [
        Ancestor(one, fitness_on(store, one.source_hash, testbed, seeds), _diff(one, found)) for one in ranked
    ]


def fitness_on(store: Store, source_hash: str, testbed: str, seeds: Sequence[int]) -> Fitness | None:
    """A recipe's fitness over exactly these seeds; None where one is not on record or failed."""
    trials = [trial for trial in store.trials.of(source_hash, testbed, 1.0) if trial.seed in seeds]
    return Fitness.of(trials) if len(trials) == len(seeds) else None


def _diff(one: Individual, found: dict[str, Individual]) -> str:
    if not one.parents:
        return ""
    parent = found[one.parents[0]]
    lines = difflib.unified_diff(
        parent.source.splitlines(), one.source.splitlines(), f"{parent.id}.py", f"{one.id}.py", lineterm=""
    )
    return "\n".join(lines) + "\n"
