"""The search: generations on islands, migration between them, and a store from which it goes on after any
interruption.

A generation is a function of the store as the last one left it, of the settings, and of its trials' outcomes.
So a search that was killed does the interrupted generation again, finds the trials that it had already paid
for, and ends up the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from evo_aar.search.allocation import Allocation
from evo_aar.search.breeding import Birth, Breeding
from evo_aar.search.chronicle import figures_of, near_parents, post_findings, tallies_after
from evo_aar.search.operator import Operator
from evo_aar.search.phases import generation_phase
from evo_aar.search.planning import Planner, Surroundings
from evo_aar.search.racing import Race
from evo_aar.search.record import (
    EmptyPlace,
    GenerationRecord,
    GenerationState,
)
from evo_aar.search.seed_recipes import seed_individual
from evo_aar.search.seeds import search_seeds
from evo_aar.search.selection import Contender, best, scheme_named
from evo_aar.search.settings import SearchSettings
from evo_aar.search.standings import Standings
from evo_aar.search.succession import Succession
from evo_aar.search.topologies import topology_named
from evo_aar.search.trials import Candidate, TrialRunner
from population.archive import Archive
from population.island import Generation, Island
from population.store import Store
from population.tables.generations import Fate
from population.trial import first_failure, successful
from recipes.directions import Direction, directions

ARCHIVE = Archive(8)
STAGNANT = 2
"""Generations without a new best after which an island is given a fresh draft, where the operator makes any.
"""


class Reporter(Protocol):
    """Who watches a search."""

    def generation(self, store: Store, number: int) -> None:
        """A generation is on record."""


@dataclass
class Litter:
    """Who was born in a generation: ids by island of those with a fitness, the fates of the others, empty
    places.
    """

    born: dict[int, list[str]]
    fates: list[Fate]
    empty: list[EmptyPlace]


class Search:
    """Runs a search from wherever its store stands.

    `surroundings`: what the testbed offers; `reporters` are told of every generation; `also`: trials on
    testbeds that each generation's elites are evaluated on too; `baselines`: accuracies by name, for the
    record; `concurrency`: calls of the operator at once.
    """

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        operator: Operator,
        trials: TrialRunner,
        surroundings: Surroundings,
        *,
        reporters: tuple[Reporter, ...] = (),
        also: Mapping[str, TrialRunner] | None = None,
        baselines: Mapping[str, float] | None = None,
        concurrency: int = 1,
    ) -> None:
        self._store = store
        self._settings = settings
        self._operator = operator
        self._trials = trials
        self._surroundings = surroundings
        self._reporters = reporters
        self._also = dict(also or {})
        self._baselines = dict(baselines or {})
        self._concurrency = concurrency
        self._scheme = scheme_named(settings.selection)
        self._succession = Succession(
            store, settings, trials, scheme=self._scheme, topology=topology_named(settings.topology)
        )
        every = directions()
        self._directions: list[Direction] = [every[island % len(every)] for island in range(settings.islands)]
        self._seeds = search_seeds(settings.seed, settings.seeds)

    @property
    def done(self) -> bool:
        return len(self._store.generations) > self._settings.generations

    def step(self) -> None:
        """The next generation, whole: generation 0 are the seed recipes."""
        number = len(self._store.generations)
        self._close(number, self._births(number) if number else self._seed_recipes())
        for reporter in self._reporters:
            reporter.generation(self._store, number)

    # ---- who is born

    def _seed_recipes(self) -> Litter:
        everyone = []
        for island, direction in enumerate(self._directions):
            individual = seed_individual(island, direction)
            self._store.individuals.add(individual)
            everyone.append(individual)
        self._trials.ensure([Candidate.of(one) for one in everyone], self._seeds)
        standings = self._standings(0)
        fates = [
            Fate(one.id, 0, one.island, "failed", why)
            for one in everyone
            if (why := standings.failure(one.source_hash)) is not None
        ]
        return Litter({one.island: [one.id] for one in everyone}, fates, [])

    def _births(self, number: int) -> Litter:
        standings = self._standings(number - 1)
        living = standings.living(number - 1)
        known = frozenset(self._store.individuals.source_hashes(before=number))
        planner = self._planner(number, standings, living, known)
        plans = [
            planner.plans(island, direction, self._settings.children)
            for island, direction in enumerate(self._directions)
        ]
        race = self._race(living)
        breeding = Breeding(
            self._operator,
            self._settings.seed,
            lambda births: self._attempt(births, race),
            lambda birth: first_failure(self._trials.of(birth.source_hash)),
            concurrency=self._concurrency,
        )
        births, empty = breeding.children(plans)
        return self._litter(number, living, known, births, empty)

    def _litter(
        self,
        number: int,
        living: Mapping[int, list[Contender]],
        known: frozenset[str],
        births: list[Birth],
        empty: list[EmptyPlace],
    ) -> Litter:
        """Register the births, and tell duplicates and failures from those with a fitness."""
        litter = Litter({island: [] for island in living}, [], empty)
        standings, seen = self._standings(number), set(known)
        with self._store.transaction():
            for birth in births:
                one = birth.individual()
                self._store.individuals.add(one)
                why = standings.failure(one.source_hash)
                if one.source_hash in seen:
                    reason = f"the recipe {one.source_hash} was born before"
                    litter.fates.append(Fate(one.id, number, one.island, "duplicate", reason))
                elif why is not None:
                    litter.fates.append(Fate(one.id, number, one.island, "failed", why))
                else:
                    litter.born[one.island].append(one.id)
                seen.add(one.source_hash)
        return litter

    def _planner(
        self, number: int, standings: Standings, living: dict[int, list[Contender]], known: frozenset[str]
    ) -> Planner:
        settings, last = self._settings, self._store.generations.get(number - 1)
        tallies = GenerationRecord.of(last).state.tallies
        return Planner(
            self._operator,
            Allocation(self._operator.verbs, settings.models, tallies, settings.allocation),
            self._scheme,
            seed=settings.seed,
            generation=number,
            islands=living,
            archives={island.number: standings.contenders(island.archive) for island in last.islands},
            born=known,
            near=self._near_children(),
            stagnant=self._stagnant(number),
            surroundings=self._surroundings,
        )

    def _attempt(self, births: list[Birth], race: Race | None) -> None:
        if race is None:
            self._trials.ensure([one.candidate for one in births], self._seeds)
            return
        # An island's first proposals come together; which repaired ones do is a matter of timing, so each of
        # these races alone.
        heats: dict[tuple[int, int | None], list[Candidate]] = {}
        for one in births:
            key = (one.context.island, one.context.child if one.attempt else None)
            heats.setdefault(key, []).append(one.candidate)
        race.run(self._trials, heats.values())

    def _near_children(self) -> dict[str, int]:
        """By individual, how many of its children behaved nearly as it does, in all generations so far."""
        found: dict[str, int] = {}
        for generation in self._store.generations.all():
            for parent in GenerationRecord.of(generation).state.near.values():
                found[parent] = found.get(parent, 0) + 1
        return found

    def _stagnant(self, number: int) -> frozenset[int]:
        """The islands whose best has been the same for STAGNANT generations."""
        if number <= STAGNANT:
            return frozenset()
        then, now = (
            GenerationRecord.of(self._store.generations.get(each)).state.best
            for each in (number - 1 - STAGNANT, number - 1)
        )
        return frozenset(island for island, one in now.items() if one == then[island])

    def _race(self, living: Mapping[int, list[Contender]]) -> Race | None:
        if not self._settings.race:
            return None
        incumbents = {
            island: [self._trials.of(one.individual.source_hash) for one in ones]
            for island, ones in living.items()
        }
        return Race(incumbents, self._seeds, self._settings.population)

    # ---- who lives, and what is told of it

    def _close(self, number: int, litter: Litter) -> None:
        born = litter.born
        standings = self._standings(number)
        before = standings.living(number - 1) if number else {island: [] for island in born}
        succession = self._succession.decide(number, before, born, standings)
        kept, standings = succession.kept, succession.standings
        fates = litter.fates + succession.fates
        near = near_parents([one for ids in born.values() for one in standings.contenders(ids)], standings)
        post_findings(self._store.forum, number, before, kept)
        islands = tuple(
            Island(island, tuple(one.id for one in kept[island]), standings.archive(island, ARCHIVE))
            for island in sorted(kept)
        )
        tallies = tallies_after(self._store, number, litter.empty, standings)
        allocation = Allocation(
            self._operator.verbs, self._settings.models, tallies, self._settings.allocation
        )
        state = GenerationState(
            best={island: kept[island][0].id if kept[island] else None for island in kept},
            near=near,
            tallies=allocation.tallies,
            empty=tuple(litter.empty),
        )
        figures = figures_of(
            [one.name for one in self._directions],
            kept,
            born,
            fates,
            litter.empty,
            {one.id: one for one in self._store.individuals.all()},
            probabilities=allocation.probabilities(),
            baselines=self._baselines,
            also=self._evaluate_also(kept),
        )
        with self._store.transaction():
            self._store.generations.commit(
                Generation(number, islands, GenerationRecord(state, figures).to_json()),
                sorted(set(fates), key=lambda fate: (fate.island, fate.individual)),
                succession.migrations,
            )
            for trials in (self._trials, *self._also.values()):
                trials.commit(generation_phase(number))

    def _evaluate_also(self, kept: Mapping[int, list[Contender]]) -> dict[str, dict[str, float | None]]:
        """Each island's best on the other testbeds: told, never selected on."""
        elites = [one.individual for ones in kept.values() for one in best(ones, 1)]
        found: dict[str, dict[str, float | None]] = {}
        for name, trials in self._also.items():
            trials.ensure([Candidate.of(one, "also") for one in elites], self._seeds)
            found[name] = {}
            for one in elites:
                tried = trials.of(one.source_hash)
                scores = [trial.pgr for trial in successful(tried)]
                sound = bool(scores) and len(scores) == len(tried)
                found[name][one.id] = sum(scores) / len(scores) if sound else None
        return found

    def _standings(self, generation: int) -> Standings:
        return Standings(
            self._store, self._trials, self._scheme, generation=generation, seeds=len(self._seeds)
        )
