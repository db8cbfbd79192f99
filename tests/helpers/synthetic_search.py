"""Searches without a trainer: a store filled through the population's own classes, as a search fills it, with
made-up scores.
"""

import math
from dataclasses import asdict

import numpy as np

from evo_aar.search.seeds import final_seeds, fresh_seeds, search_seeds
from evo_aar.search.settings import SearchSettings
from population.behaviour import behaviour, diversity
from population.fitness import Fitness
from population.individual import Individual
from population.island import Generation, Island
from population.migration import migrate, ring
from population.store import Store
from population.tables.generations import Fate
from population.trial import FailedTrial, SuccessfulTrial
from recipes.directions import baseline_sources, directions
from recipes.source import idea, source_hash

TESTBED_HASH = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
POOL = 64


class SyntheticSearch:
    """Advances a store by whole generations. The same arguments give the same store.

    In each generation an island's first child is a crossover, the second one fails, the third one is a
    duplicate where its number says so; the others are mutations. The best migrate in every second generation.
    """

    def __init__(
        self,
        path,
        *,
        islands=2,
        population=2,
        children=3,
        generations=3,
        seeds=3,
        seed=0,
        testbed="mini/math",
    ):
        self.settings = SearchSettings(
            testbed=testbed,
            islands=islands,
            population=population,
            children=children,
            generations=generations,
            seeds=seeds,
            final_seeds=4,
            seed=seed,
        )
        facts = {"evo-aar": "0.1.0", "torch": "2.13.0", "python": "3.11.2", "testbed_hash": TESTBED_HASH}
        self.store = Store.create(path, self.settings.to_json(), facts)
        self.directions = directions()
        self.populations = {island: () for island in range(islands)}
        self.number = 0

    def run(self, watcher=lambda number: None):
        for _ in range(self.settings.generations + 1):
            watcher(self.advance())
        self.finals()
        return self

    def advance(self):
        """One more generation; returns its number."""
        number, fates, born = self.number, [], {}
        for island in self.populations:
            born[island] = []
            for child in range(self.settings.children if number else 1):
                one = self._birth(number, island, child)
                first = self.store.individuals.of_source(one.source_hash)
                self.store.individuals.add(one)
                self._try(one, search_seeds(self.settings.seed, self.settings.seeds), fails=child == 1)
                if first:
                    fates.append(
                        Fate(
                            one.id,
                            number,
                            island,
                            "duplicate",
                            f"the recipe {one.source_hash} was born before",
                        )
                    )
                elif child == 1:
                    fates.append(Fate(one.id, number, island, "failed", "crash: division by zero"))
                else:
                    born[island].append(one.id)
        before = self.populations
        populations = {
            island: self._best([*before[island], *born[island]], self.settings.population)
            for island in sorted(before)
        }
        moves = []
        if number and number % 2 == 0:
            elites = {island: self._best(living, 1) for island, living in populations.items()}
            for ones in elites.values():
                for one in ones:
                    self._try(
                        self.store.individuals.get(one), fresh_seeds(self.settings.seed, self.settings.seeds)
                    )
            moves, populations = migrate(number, populations, elites, ring(populations))
            fates += [
                Fate(one, number, island, "elite", "migrates")
                for island, ones in elites.items()
                for one in ones
            ]
            populations = {island: self._best(living, len(living)) for island, living in populations.items()}
        for island, ones in before.items():
            for one in dict.fromkeys([*ones, *born[island]]):
                fates.append(Fate(one, number, island, "survived" if one in populations[island] else "died"))
        islands = tuple(Island(island, living) for island, living in populations.items())
        self.populations = populations
        self.store.generations.commit(
            Generation(number, islands, self._summary(number, born, fates)), fates, moves
        )
        self.number += 1
        return number

    def finals(self):
        """Vanilla and the best of all on the final seeds, and the coronation."""
        seeds = final_seeds(self.settings.seed, self.settings.final_seeds)
        vanilla = baseline_sources()["vanilla"]
        self._record(source_hash(vanilla), seeds, 0.3)
        best = self.store.individuals.get(self._best([one.id for one in self.store.individuals.all()], 1)[0])
        founder = self.store.individuals.all(generation=0)[0]
        for one in {best.id: best, founder.id: founder}.values():
            self._try(one, seeds)
        self.store.generations.add_fate(
            Fate(best.id, self.number - 1, best.island, "crowned", "best bound of PGR")
        )

    def _birth(self, number, island, child):
        direction = self.directions[island % len(self.directions)]
        if not number:
            return self._born(number, island, child, direction.seed_source, "seed", (), direction)
        living = self.populations[island]
        parents = (living[child % len(living)],)
        if child == 0:
            other = self.populations[(island + 1) % len(self.populations)]
            parents = tuple(dict.fromkeys((*parents, other[0])))
        source = self.store.individuals.get(parents[0]).source
        if child != 2 or number % 2:
            source += f"\nSYNTHETIC_{number}_{island}_{child} = {number + child / 10}\n"
        return self._born(number, island, child, source, "offline", parents, direction)

    def _born(self, number, island, child, source, operator, parents, direction):
        verb = {0: "", 1: " mutation", 2: " crossover"}[len(parents)]
        detail = {
            "direction": direction.name,
            "changes": [f"SYNTHETIC_{number} added"] if parents else [],
            "repairs": 0,
        }
        return Individual.born(
            generation=number,
            island=island,
            child=child,
            source=source,
            source_hash=source_hash(source),
            operator=operator + verb,
            parents=parents,
            idea=idea(source),
            detail=detail,
        )

    def _try(self, one, seeds, fails=False):
        level = 0.25 + 0.12 * one.generation + 0.03 * one.island - 0.02 * one.child
        self._record(one.source_hash, seeds, level, fails, one)

    def _record(self, digest, seeds, level, fails=False, one=None):
        for seed in seeds:
            if self.store.trials.get(digest, TESTBED_HASH, seed, 1.0):
                continue
            rng = np.random.default_rng([seed, int(digest[:8], 16)])
            common = {
                "source_hash": digest,
                "testbed": TESTBED_HASH,
                "seed": seed,
                "fidelity": 1.0,
                "tokens": 40_000,
                "seconds": 1.5,
            }
            if fails:
                trial = FailedTrial(
                    reason="crash",
                    message="ZeroDivisionError: division by zero (recipe.py, line 7)",
                    **common,
                )
            else:
                pgr = level + 0.05 * rng.standard_normal()
                steps = [
                    {
                        "step": step,
                        "loss": 0.7 * math.exp(-step / 40),
                        "gradient_norm": 1 / (1 + step),
                        "agreement": 0.8,
                    }
                    for step in range(0, 100, 20)
                ]
                trial = SuccessfulTrial(
                    accuracy=0.7 + 0.2 * pgr,
                    pgr=pgr,
                    pool=rng.random(POOL),
                    history=[{"request": request, "student": "head", "steps": steps} for request in range(3)],
                    **common,
                )
            account = (
                {"island": one.island, "generation": one.generation, "operator": one.operator}
                if one
                else {"operator": "finals"}
            )
            with self.store.transaction():
                self.store.trials.record(trial)
                self.store.ledger.add("trainer_tokens", trial.tokens, **account)

    def _fitness(self, identity):
        one = self.store.individuals.get(identity)
        return Fitness.of(self.store.trials.of(one.source_hash, TESTBED_HASH, 1.0))

    def _best(self, identities, count):
        scored = {identity: fitness for identity in identities if (fitness := self._fitness(identity))}
        return tuple(sorted(scored, key=lambda identity: -scored[identity].mean)[:count])

    def _summary(self, number, born, fates):
        facts, everyone = {}, {one.id: one for one in self.store.individuals.all()}
        for island, living in self.populations.items():
            best = self._fitness(living[0])
            own = [fate.kind for fate in fates if fate.island == island]
            facts[str(island)] = {
                "direction": self.directions[island % len(self.directions)].name,
                "best": living[0],
                "best_pgr": best.mean,
                "best_se": best.standard_error,
                "mean_pgr": float(np.mean([self._fitness(one).mean for one in living])),
                "born": len(born[island]) + own.count("failed") + own.count("duplicate"),
                "failed": own.count("failed"),
                "duplicates": own.count("duplicate"),
                "unborn": 0,
            }
        top = max(facts.values(), key=lambda one: one["best_pgr"])
        pools = {
            one: behaviour(self.store.trials.of(everyone[one].source_hash, TESTBED_HASH, 1.0))
            for living in self.populations.values()
            for one in living
        }
        return {
            "islands": facts,
            "best": top["best"],
            "best_pgr": top["best_pgr"],
            "best_se": top["best_se"],
            "diversity": asdict(diversity(self.populations, everyone, pools)),
            "also": {},
        }
