"""The search: generations on islands, migration on a ring, and a store from which it goes on after any interruption.

A generation is a function of the store as the last one left it, of the settings, and of its trials' outcomes. So a search that was
killed does the interrupted generation again, finds the trials that it had already paid for, and ends up the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from deap import tools

from evo_aar.births import Birth, Nursery
from evo_aar.operators.base import Operator
from evo_aar.racing import Race
from evo_aar.selection import Contender, best, contender, pooled_deviation, survivors
from evo_aar.settings import SearchSettings
from evo_aar.trials import Candidate, Trials, fresh_seeds, search_seeds
from population.archive import Archive
from population.archive import Candidate as ArchiveCandidate
from population.behaviour import diversity
from population.forum import Finding
from population.individual import Individual
from population.island import Generation, Island
from population.migration import Migration, ring_migration
from population.store import Store
from population.tables.generations import Fate
from recipes.directions import Direction, directions
from recipes.source import idea, source_hash

REPAIRS = 2
ARCHIVE = 8
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
    ) -> None:
        self._store = store
        self._settings = settings
        self._operator = operator
        self._trials = trials
        self._facts = facts
        self._reporters = reporters
        self._also = dict(also or {})
        self._baselines = dict(baselines or {})
        every = directions()
        self._directions: list[Direction] = [every[island % len(every)] for island in range(settings.islands)]
        self._seeds = search_seeds(settings.seed, settings.seeds)

    @property
    def done(self) -> bool:
        return len(self._store.generations) > self._settings.generations

    def step(self) -> None:
        """The next generation, whole: generation 0 are the seed recipes."""
        number = len(self._store.generations)
        born, fates = self._seed_recipes() if number == 0 else self._births(number)
        self._close(number, born, fates)
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
                source=direction.seed,
                source_hash=source_hash(direction.seed),
                operator="seed",
                idea=idea(direction.seed),
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

    def _births(self, number: int) -> tuple[dict[int, list[str]], list[Fate]]:
        living = self._living(number - 1)
        known = self._store.individuals.source_hashes(before=number)
        nursery = Nursery(self._operator, self._settings.seed, number, living, frozenset(known))
        births = [
            birth
            for island, direction in enumerate(self._directions)
            for birth in nursery.propose(island, direction, self._settings.children, self._facts)
        ]
        final = self._mended(nursery, births, self._race(living))
        born: dict[int, list[str]] = {island: [] for island in living}
        fates, seen = [], set(known)
        with self._store.transaction():
            for birth in final:
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
                    fates.append(Fate(individual.id, number, individual.island, "failed", self._why(individual)))
                else:
                    born[individual.island].append(individual.id)
                seen.add(individual.source_hash)
        return born, fates

    def _mended(self, nursery: Nursery, births: list[Birth], race: Race | None) -> list[Birth]:
        """The births after their trials, and after failures went back to their operator a bounded number of times."""
        for attempt in range(REPAIRS + 1):
            candidates = [
                Candidate(
                    birth.proposal.source,
                    birth.source_hash,
                    birth.context.island,
                    birth.context.generation,
                    birth.proposal.operator,
                )
                for birth in births
                if birth.attempt == attempt
            ]
            if race is not None:
                race.run(self._trials, candidates)
            else:
                self._trials.ensure(candidates, self._seeds)
            if attempt == REPAIRS:
                break
            mended = []
            for birth in births:
                failed = [trial for trial in self._trials.of(birth.source_hash) if not trial.ok] if birth.attempt == attempt else []
                mended.append((nursery.repair(birth, failed[0]) if failed else None) or birth)
            births = mended
        return births

    def _race(self, living: Mapping[int, list[Contender]]) -> Race | None:
        if not self._settings.race:
            return None
        incumbents = {island: [self._trials.of(one.individual.source_hash) for one in ones] for island, ones in living.items()}
        return Race(incumbents, self._settings.population, self._seeds)

    # ---- who lives

    def _close(self, number: int, born: dict[int, list[str]], fates: list[Fate]) -> None:
        before = self._living(number - 1) if number else {island: [] for island in born}
        deviation = self._deviation()
        kept = {
            island: survivors([*before[island], *self._contenders(born[island], deviation)], self._settings.population)
            for island in sorted(before)
        }
        migrations: list[Migration] = []
        if (
            self._settings.migrate_every
            and number
            and number % self._settings.migrate_every == 0
            and number < self._settings.generations
        ):
            kept, migrations, elites = self._migrate(number, kept)
            fates += [
                Fate(one.id, number, island, "elite", "tried on fresh seeds before it migrates") for island, one in elites.items()
            ]
        for island in sorted(before):
            alive = {one.id for one in kept[island]}
            for identity in [one.id for one in before[island]] + born[island]:
                lives = identity in alive
                fates.append(
                    Fate(identity, number, island, "survived" if lives else "died", "" if lives else self._raced_out(identity))
                )
        self._post_findings(number, before, kept)
        islands = tuple(Island(island, tuple(one.id for one in kept[island]), self._archive(island)) for island in sorted(kept))
        summary = self._summary(number, kept, born, fates)
        self._store.generations.commit(
            Generation(number, islands, summary), sorted(set(fates), key=lambda fate: (fate.island, fate.individual)), migrations
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
            island: best(self._contenders([one.id for one in living], deviation), len(living)) for island, living in kept.items()
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
            island: survivors(self._contenders(ids, deviation), self._settings.population) for island, ids in populations.items()
        }
        arrived = {island: {one.id for one in living} for island, living in settled.items()}
        return settled, [move for move in moves if move.individual in arrived[move.target]], elites

    def _archive(self, island: int) -> tuple[str, ...]:
        deviation = self._deviation()
        ever = self._contenders([one.id for one in self._store.individuals.all(island=island)], deviation)
        return Archive(ARCHIVE).choose(ArchiveCandidate(one.individual, one.estimate, one.behaviour) for one in ever)

    def _post_findings(self, number: int, before: Mapping[int, list[Contender]], kept: Mapping[int, list[Contender]]) -> None:
        """An island whose best is new and ahead of the old one by more than its standard error says so on the forum."""
        for island, living in kept.items():
            old, new = best(before[island], 1), best(living, 1)
            if not old or not new or new[0].individual.generation != number or new[0].fitness <= old[0].fitness:
                continue
            gain, error = new[0].estimate.mean - old[0].estimate.mean, new[0].estimate.standard_error or 0.0
            if gain > error:
                changes = "; ".join(new[0].individual.detail.get("changes", ())) or "a new recipe"
                text = f"{changes}: PGR {old[0].estimate.mean:.2f} to {new[0].estimate.mean:.2f} (± {error:.2f}) over {old[0].individual.idea!r}"
                self._store.forum.post(
                    Finding(new[0].id, island, number, new[0].individual.idea, text, new[0].individual.source_hash)
                )

    # ---- what is known of them

    def _try(self, individuals: list[Individual], fresh: bool = False) -> None:
        seeds = fresh_seeds(self._settings.seed, self._settings.seeds) if fresh else self._seeds
        self._trials.ensure(
            [
                Candidate(one.source, one.source_hash, one.island, one.generation, "elite" if fresh else one.operator)
                for one in individuals
            ],
            seeds,
        )

    def _ok(self, digest: str) -> bool:
        trials = self._trials.of(digest)
        return bool(trials) and all(trial.ok for trial in trials)

    def _why(self, individual: Individual) -> str:
        return next(
            (f"{trial.reason}: {trial.message}" for trial in self._trials.of(individual.source_hash) if not trial.ok), "no trial"
        )

    def _raced_out(self, identity: str) -> str:
        tried = len(self._trials.of(self._store.individuals.get(identity).source_hash))
        return f"raced out after {tried} of {len(self._seeds)} seeds" if tried < len(self._seeds) else ""

    def _deviation(self) -> float:
        return pooled_deviation([self._trials.of(digest) for digest in sorted(self._store.individuals.source_hashes())])

    def _contenders(self, ids: list[str], deviation: float) -> list[Contender]:
        individuals = [self._store.individuals.get(identity) for identity in ids]
        made = [contender(one, self._trials.of(one.source_hash), deviation, len(self._seeds)) for one in individuals]
        return [one for one in made if one is not None]

    def _living(self, number: int) -> dict[int, list[Contender]]:
        deviation = self._deviation()
        return {
            island.number: self._contenders(list(island.population), deviation)
            for island in self._store.generations.get(number).islands
        }

    # ---- what is told of them

    def _summary(self, number: int, kept: Mapping[int, list[Contender]], born: Mapping[int, list[str]], fates: list[Fate]) -> dict:
        living = {one.id: one for ones in kept.values() for one in ones}
        hall = tools.HallOfFame(1, similar=lambda a, b: a.id == b.id)
        hall.update(best(living.values(), len(living)))
        statistics = tools.Statistics(key=lambda one: one.estimate.mean)
        statistics.register("best", max)
        statistics.register("mean", lambda values: sum(values) / len(values))
        logbook = tools.Logbook()
        for island, ones in kept.items():
            record = statistics.compile(ones) if ones else {"best": None, "mean": None}
            logbook.record(island=island, **record)
        islands = {}
        for entry in logbook:
            island = entry["island"]
            top = best(kept[island], 1)
            own = [fate for fate in fates if fate.island == island]
            islands[str(island)] = {
                "direction": self._directions[island].name,
                "best": top[0].id if top else None,
                "best_pgr": top[0].estimate.mean if top else None,
                "best_se": top[0].estimate.standard_error if top else None,
                "mean_pgr": entry["mean"],
                "born": len(born[island]) + sum(fate.kind in ("failed", "duplicate") for fate in own),
                "failed": sum(fate.kind == "failed" for fate in own),
                "duplicates": sum(fate.kind == "duplicate" for fate in own),
            }
        everyone = {one.id: one for one in self._store.individuals.all()}
        varied = diversity(
            {i: [one.id for one in ones] for i, ones in kept.items()}, everyone, {one.id: one.behaviour for one in living.values()}
        )
        return {
            "islands": islands,
            "best": hall[0].id if len(hall) else None,
            "best_pgr": hall[0].estimate.mean if len(hall) else None,
            "best_se": hall[0].estimate.standard_error if len(hall) else None,
            "diversity": asdict(varied),
            "baselines": self._baselines,
            "also": self._evaluate_also(kept),
        }

    def _evaluate_also(self, kept: Mapping[int, list[Contender]]) -> dict[str, dict[str, float | None]]:
        """Each island's best on the other testbeds: told, never selected on."""
        elites = [one.individual for ones in kept.values() for one in best(ones, 1)]
        found: dict[str, dict[str, float | None]] = {}
        for name, trials in self._also.items():
            trials.ensure(
                [Candidate(one.source, one.source_hash, one.island, one.generation, "also") for one in elites], self._seeds
            )
            found[name] = {}
            for one in elites:
                scores = [trial.pgr for trial in trials.of(one.source_hash)]
                found[name][one.id] = None if None in scores or not scores else sum(scores) / len(scores)
        return found
