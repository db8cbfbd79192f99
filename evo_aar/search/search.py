"""The search: generations on islands, migration on a ring, and a store from which it goes on after any
interruption.

A generation is a function of the store as the last one left it, of the settings, and of its trials' outcomes.
So a search that was killed does the interrupted generation again, finds the trials that it had already paid
for, and ends up the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from evo_aar.search.allocation import Allocation, Tally, tallies_of
from evo_aar.search.audits import quarantine_fates, static_failures
from evo_aar.search.births import Birth, Nursery, Unborn
from evo_aar.search.breeding import Breeding
from evo_aar.search.chronicle import post_findings, summary_of
from evo_aar.search.operator import Operator
from evo_aar.search.racing import Race
from evo_aar.search.selection import NEAR, Contender, best, contender, pooled_deviation, survivors
from evo_aar.search.settings import SearchSettings
from evo_aar.search.trials import Candidate, Trials, fresh_seeds, search_seeds
from population.archive import Archive
from population.archive import Candidate as ArchiveCandidate
from population.behaviour import distance
from population.individual import Individual, Trial
from population.island import Generation, Island
from population.migration import Migration, ring_migration
from population.store import Store
from population.tables.generations import Fate
from recipes.directions import Direction, directions
from recipes.source import idea, source_hash

ARCHIVE = 8
STAGNANT = 2
"""Generations without a new best after which an island is given a fresh draft, where the operator makes any.
"""
ELITES = 2
"""How many of an island's best are tried on fresh seeds before one of them migrates."""


class Reporter(Protocol):
    """Who watches a search."""

    def generation(self, store: Store, number: int) -> None:
        """A generation is on record."""


class Search:
    """Runs a search from wherever its store stands."""

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        operator: Operator,
        trials: Trials,
        facts: Mapping,
        reporters: tuple[Reporter, ...] = (),
        also: Mapping[str, Trials] | None = None,
        baselines: Mapping[str, float] | None = None,
        concurrency: int = 1,
    ) -> None:
        self._store = store
        self._settings = settings
        self._operator = operator
        self._trials = trials
        self._facts = facts
        self._reporters = reporters
        self._also = dict(also or {})
        self._baselines = dict(baselines or {})
        self._concurrency = concurrency
        every = directions()
        self._directions: list[Direction] = [every[island % len(every)] for island in range(settings.islands)]
        self._seeds = search_seeds(settings.seed, settings.seeds)

    @property
    def done(self) -> bool:
        return len(self._store.generations) > self._settings.generations

    def step(self) -> None:
        """The next generation, whole: generation 0 are the seed recipes."""
        number = len(self._store.generations)
        born, fates, unborn = (*self._seed_recipes(), []) if number == 0 else self._births(number)
        self._close(number, born, fates, unborn)
        for reporter in self._reporters:
            reporter.generation(self._store, number)

    # ---- who is born

    def _seed_recipes(self) -> tuple[dict[int, list[str]], list[Fate]]:
        born: dict[int, list[str]] = {}
        for island, direction in enumerate(self._directions):
            individual = Individual.born(
                generation=0,
                island=island,
                child=0,
                source=direction.seed_source,
                source_hash=source_hash(direction.seed_source),
                operator="seed",
                idea=idea(direction.seed_source),
                detail={"direction": direction.name},
            )
            self._store.individuals.add(individual)
            born[island] = [individual.id]
        self._try(self._store.individuals.all(generation=0))
        fates = [
            Fate(one.id, 0, one.island, "failed", self._why(one))
            for one in self._store.individuals.all(generation=0)
            if not self._ok(one.source_hash)
        ]
        return born, fates

    def _births(self, number: int) -> tuple[dict[int, list[str]], list[Fate], list[Unborn]]:
        living = self._living(number - 1)
        known = self._store.individuals.source_hashes(before=number)
        nursery = self._nursery(number, living, frozenset(known))
        plans = [
            nursery.plan(island, direction, self._settings.children, self._facts)
            for island, direction in enumerate(self._directions)
        ]
        made = Breeding(
            nursery,
            self._attempts(self._race(living)),
            lambda birth: self._failure(birth.source_hash),
            concurrency=self._concurrency,
            waits=self._operator.waits,
            interrupt=self._operator.interrupt,
            abandon=self._operator.abandon,
        ).births(plans)
        born: dict[int, list[str]] = {island: [] for island in living}
        fates, seen = [], set(known)
        with self._store.transaction():
            for birth in [one for one in made if isinstance(one, Birth)]:
                individual = birth.individual()
                self._store.individuals.add(individual)
                if individual.source_hash in seen:
                    fates.append(
                        Fate(
                            individual.id,
                            number,
                            individual.island,
                            "duplicate",
                            f"the recipe {individual.source_hash} was born before",
                        )
                    )
                elif not self._ok(individual.source_hash):
                    fates.append(
                        Fate(individual.id, number, individual.island, "failed", self._why(individual))
                    )
                else:
                    born[individual.island].append(individual.id)
                seen.add(individual.source_hash)
        return born, fates, [one for one in made if isinstance(one, Unborn)]

    def _nursery(self, number: int, living: Mapping[int, list[Contender]], known: frozenset[str]) -> Nursery:
        last = self._store.generations.get(number - 1)
        deviation = self._deviation()
        settings = self._settings
        return Nursery(
            self._operator,
            Allocation(self._operator.verbs, settings.models, tallies_of(last.summary), settings.allocation),
            seed=settings.seed,
            generation=number,
            islands=living,
            archives={
                island.number: self._contenders(list(island.archive), deviation) for island in last.islands
            },
            born=known,
            near=self._near_children(),
            stagnant=self._stagnant(number),
        )

    def _attempts(self, race: Race | None) -> Callable[[list[Birth]], None]:
        def attempt(births: list[Birth]) -> None:
            candidates = [
                Candidate(
                    one.proposal.source,
                    one.source_hash,
                    one.context.island,
                    one.context.generation,
                    one.proposal.operator,
                )
                for one in births
            ]
            if race is None:
                self._trials.ensure(candidates, self._seeds)
                return
            # An island's first proposals come together; which repaired ones do is a matter of timing, so each
            # of these races alone.
            heats: dict[tuple, list[Candidate]] = {}
            for one, candidate in zip(births, candidates, strict=True):
                key = (candidate.island, one.context.child) if one.attempt else (candidate.island,)
                heats.setdefault(key, []).append(candidate)
            race.run(self._trials, heats.values())

        return attempt

    def _failure(self, digest: str) -> Trial | None:
        return next((trial for trial in self._trials.of(digest) if not trial.ok), None)

    def _near_children(self) -> dict[str, int]:
        """By individual, how many of its children behaved nearly as it does, in all generations so far."""
        found: dict[str, int] = {}
        for generation in self._store.generations.all():
            for parent in generation.summary["near"].values():
                found[parent] = found.get(parent, 0) + 1
        return found

    def _stagnant(self, number: int) -> frozenset[int]:
        """The islands whose best has been the same for STAGNANT generations."""
        if number <= STAGNANT:
            return frozenset()
        then, now = (
            self._store.generations.get(each).summary["islands"]
            for each in (number - 1 - STAGNANT, number - 1)
        )
        return frozenset(
            int(island) for island, facts in now.items() if facts["best"] == then[island]["best"]
        )

    def _race(self, living: Mapping[int, list[Contender]]) -> Race | None:
        if not self._settings.race:
            return None
        incumbents = {
            island: [self._trials.of(one.individual.source_hash) for one in ones]
            for island, ones in living.items()
        }
        return Race(incumbents, self._seeds, self._settings.population)

    # ---- who lives

    def _close(
        self, number: int, born: dict[int, list[str]], fates: list[Fate], unborn: list[Unborn]
    ) -> None:
        before = self._living(number - 1) if number else {island: [] for island in born}
        deviation = self._deviation()
        kept = {
            island: survivors(
                [*before[island], *self._contenders(born[island], deviation)], self._settings.population
            )
            for island in sorted(before)
        }
        migrations: list[Migration] = []
        if (
            self._settings.migrate_every
            and number
            and number % self._settings.migrate_every == 0
            and number < self._settings.generations
        ):
            kept, apart = self._set_apart(number, kept)
            fates += apart
            kept, migrations, elites = self._migrate(number, kept)
            fates += [
                Fate(one.id, number, island, "elite", "tried on fresh seeds before it migrates")
                for island, one in elites.items()
            ]
        for island in sorted(before):
            alive = {one.id for one in kept[island]}
            for identity in [one.id for one in before[island]] + born[island]:
                lives = identity in alive
                fates.append(
                    Fate(
                        identity,
                        number,
                        island,
                        "survived" if lives else "died",
                        "" if lives else self._raced_out(identity),
                    )
                )
        near = self._near(born, deviation)
        post_findings(self._store.forum, number, before, kept)
        islands = tuple(
            Island(island, tuple(one.id for one in kept[island]), self._archive(island))
            for island in sorted(kept)
        )
        everyone = {one.id: one for one in self._store.individuals.all()}
        summary = summary_of([one.name for one in self._directions], kept, born, fates, unborn, everyone) | {
            "near": near,
            "allocation": self._allocated(number, unborn),
            "baselines": self._baselines,
            "also": self._evaluate_also(kept),
        }
        self._store.generations.commit(
            Generation(number, islands, summary),
            sorted(set(fates), key=lambda fate: (fate.island, fate.individual)),
            migrations,
        )

    def _set_apart(
        self, number: int, kept: dict[int, list[Contender]]
    ) -> tuple[dict[int, list[Contender]], list[Fate]]:
        """Without those that fail the static read; their fates, and their descendants'."""
        reasons = {one.id: static_failures(one.individual.source) for ones in kept.values() for one in ones}
        fates: dict[tuple[str, str], Fate] = {}
        for one, reason in sorted(reasons.items()):
            for fate in quarantine_fates(self._store, one, number, reason) if reason else ():
                fates.setdefault((fate.individual, fate.kind), fate)
        return {island: [one for one in ones if not reasons[one.id]] for island, ones in kept.items()}, list(
            fates.values()
        )

    def _migrate(
        self, number: int, kept: dict[int, list[Contender]]
    ) -> tuple[dict[int, list[Contender]], list[Migration], dict[int, Contender]]:
        """Each island's best are tried on fresh seeds; the best of them then settles on the next island."""
        chosen = {island: best(living, ELITES) for island, living in kept.items()}
        individuals = [one.individual for ones in chosen.values() for one in ones]
        self._try(individuals, fresh=True)
        deviation = self._deviation()
        kept = {
            island: best(self._contenders([one.id for one in living], deviation), len(living))
            for island, living in kept.items()
        }
        elites = {}
        for island, ones in chosen.items():
            tried = {one.id for one in ones}
            top = best([one for one in kept[island] if one.id in tried], 1)
            if top:
                elites[island] = top[0]
        moves, populations = ring_migration(
            number,
            {island: [one.id for one in living] for island, living in kept.items()},
            {island: [one.id] for island, one in elites.items()},
        )
        settled = {
            island: survivors(self._contenders(ids, deviation), self._settings.population)
            for island, ids in populations.items()
        }
        arrived = {island: {one.id for one in living} for island, living in settled.items()}
        return settled, [move for move in moves if move.individual in arrived[move.target]], elites

    def _archive(self, island: int) -> tuple[str, ...]:
        deviation = self._deviation()
        ever = self._contenders([one.id for one in self._store.individuals.all(island=island)], deviation)
        return Archive(ARCHIVE).choose(
            ArchiveCandidate(one.individual, one.estimate, one.behaviour) for one in ever
        )

    # ---- what is known of them

    def _try(self, individuals: list[Individual], fresh: bool = False) -> None:
        seeds = fresh_seeds(self._settings.seed, self._settings.seeds) if fresh else self._seeds
        self._trials.ensure(
            [
                Candidate(
                    one.source,
                    one.source_hash,
                    one.island,
                    one.generation,
                    "elite" if fresh else one.operator,
                )
                for one in individuals
            ],
            seeds,
        )

    def _ok(self, digest: str) -> bool:
        trials = self._trials.of(digest)
        return bool(trials) and all(trial.ok for trial in trials)

    def _why(self, individual: Individual) -> str:
        return next(
            (
                f"{trial.reason}: {trial.message}"
                for trial in self._trials.of(individual.source_hash)
                if not trial.ok
            ),
            "no trial",
        )

    def _raced_out(self, identity: str) -> str:
        tried = len(self._trials.of(self._store.individuals.get(identity).source_hash))
        return f"raced out after {tried} of {len(self._seeds)} seeds" if tried < len(self._seeds) else ""

    def _deviation(self) -> float:
        return pooled_deviation(
            [self._trials.of(digest) for digest in sorted(self._store.individuals.source_hashes())]
        )

    def _contenders(self, ids: list[str], deviation: float) -> list[Contender]:
        individuals = [self._store.individuals.get(identity) for identity in ids]
        made = [
            contender(one, self._trials.of(one.source_hash), deviation, len(self._seeds))
            for one in individuals
        ]
        return [one for one in made if one is not None]

    def _living(self, number: int) -> dict[int, list[Contender]]:
        deviation = self._deviation()
        return {
            island.number: self._contenders(list(island.population), deviation)
            for island in self._store.generations.get(number).islands
        }

    # ---- what is told of them

    def _near(self, born: Mapping[int, list[str]], deviation: float) -> dict[str, str]:
        """The children that behave nearly as a parent of theirs does, with that parent."""
        found = {}
        for one in (one for ids in born.values() for one in self._contenders(ids, deviation)):
            parents = self._contenders(list(one.individual.parents), deviation)
            close = [parent.id for parent in parents if distance(one.behaviour, parent.behaviour) < NEAR]
            if close:
                found[one.id] = close[0]
        return found

    def _allocated(self, number: int, unborn: list[Unborn]) -> dict:
        """What every operator and model has done by now: what it gained over the better parent, and what that
        cost.
        """
        tallies: dict[str, Tally] = (
            tallies_of(self._store.generations.get(number - 1).summary) if number else {}
        )
        deviation = self._deviation()
        for one in self._store.individuals.all(generation=number) if number else ():
            own = self._contenders([one.id], deviation)
            parents = [parent.estimate.mean for parent in self._contenders(list(one.parents), deviation)]
            gain = own[0].estimate.mean - max(parents) if own and parents else 0.0
            tallies[one.detail["arm"]] = tallies.get(one.detail["arm"], Tally()).plus(
                gain, one.detail.get("usd", 0.0)
            )
        for empty in unborn:
            tallies[empty.arm.key] = tallies.get(empty.arm.key, Tally()).plus(0.0, empty.usd)
        return Allocation(
            self._operator.verbs, self._settings.models, tallies, self._settings.allocation
        ).to_json()

    def _evaluate_also(self, kept: Mapping[int, list[Contender]]) -> dict[str, dict[str, float | None]]:
        """Each island's best on the other testbeds: told, never selected on."""
        elites = [one.individual for ones in kept.values() for one in best(ones, 1)]
        found: dict[str, dict[str, float | None]] = {}
        for name, trials in self._also.items():
            trials.ensure(
                [
                    Candidate(one.source, one.source_hash, one.island, one.generation, "also")
                    for one in elites
                ],
                self._seeds,
            )
            found[name] = {}
            for one in elites:
                scores = [trial.pgr for trial in trials.of(one.source_hash)]
                found[name][one.id] = None if None in scores or not scores else sum(scores) / len(scores)
        return found
