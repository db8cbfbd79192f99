"""How the individuals of a search stand at one moment, from the trials on record then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from evo_aar.search.selection import Contender, Selection
from evo_aar.search.trials import TrialRunner
from population.archive import Archive
from population.behaviour import behaviour
from population.fitness import Fitness
from population.individual import Individual
from population.store import Store
from population.trial import Trial, first_failure, successful


def pooled_deviation(groups: Iterable[Sequence[Trial]]) -> float:
    """The deviation of PGR over seeds, pooled over recipes; 0.0 where no recipe has two successful trials."""
    squares, freedom = 0.0, 0
    for trials in groups:
        values = [trial.pgr for trial in successful(trials)]
        if len(values) > 1:
            squares += float(np.var(values)) * len(values)
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def contender(
    individual: Individual, trials: Sequence[Trial], *, scheme: Selection, deviation: float, seeds: int
) -> Contender | None:
    """The individual as a contender, or None where it has no fitness, or was tried on fewer than `seeds`
    seeds: it was raced out.
    """
    estimate = Fitness.of(trials)
    behaved = behaviour(trials)
    if estimate is None or behaved is None or estimate.trials < seeds:
        return None
    made = Contender(individual, estimate, behaved)
    made.fitness.values = (scheme.worth(estimate, deviation),)
    return made


class Standings:
    """A snapshot: make a new one after trials were added.

    `generation`: whose births it knows, and of all before it; `seeds`: how many every recipe of the search is
    tried on; `scheme`: what a fitness counts for.
    """

    def __init__(
        self, store: Store, trials: TrialRunner, scheme: Selection, *, generation: int, seeds: int
    ) -> None:
        self._store = store
        self._trials = trials
        self._scheme = scheme
        self._generation = generation
        self._seeds = seeds
        self._made: dict[str, Contender | None] = {}
        self.deviation = pooled_deviation(
            [trials.of(digest) for digest in sorted(store.individuals.source_hashes(before=generation + 1))]
        )
        """Of PGR over seeds, pooled over all recipes ever born."""

    def anew(self) -> Standings:
        """As they are now."""
        return Standings(
            self._store, self._trials, self._scheme, generation=self._generation, seeds=self._seeds
        )

    def contenders(self, identities: Iterable[str]) -> list[Contender]:
        """Those of them that have a fitness, in the order given."""
        found = map(self._contender, identities)
        return [one for one in found if one is not None]

    def living(self, generation: int) -> dict[int, list[Contender]]:
        """By island, who lived there at the end of a generation."""
        islands = self._store.generations.get(generation).islands
        return {island.number: self.contenders(island.population) for island in islands}

    def archive(self, island: int, rule: Archive) -> tuple[str, ...]:
        """The ids of the best ever born on an island, by `rule`."""
        return rule.choose(self.contenders(one.id for one in self._store.individuals.all(island=island)))

    def failure(self, source_hash: str) -> str | None:
        """Why a recipe has no fitness; None where every trial of it succeeded."""
        trials = self._trials.of(source_hash)
        if not trials:
            return "no trial"
        failed = first_failure(trials)
        return f"{failed.reason}: {failed.message}" if failed else None

    def raced_out(self, identity: str) -> str:
        """After how many seeds an individual left the race, in words; "" where it was tried on all."""
        tried = len(self._trials.of(self._store.individuals.get(identity).source_hash))
        return f"raced out after {tried} of {self._seeds} seeds" if tried < self._seeds else ""

    def _contender(self, identity: str) -> Contender | None:
        if identity not in self._made:
            one = self._store.individuals.get(identity)
            self._made[identity] = contender(
                one,
                self._trials.of(one.source_hash),
                scheme=self._scheme,
                deviation=self.deviation,
                seeds=self._seeds,
            )
        return self._made[identity]
