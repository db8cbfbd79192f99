"""What tracking reads from a store: a search as it stood after a generation."""

from __future__ import annotations

import math
from functools import cached_property

from evo_aar.lineage import Genealogy, Node
from evo_aar.search.finals import finalists
from evo_aar.search.record import GenerationRecord
from evo_aar.search.scores import Scores, scores_of
from evo_aar.tracking.individuals import Life, sort_fates
from evo_aar.tracking.islands import island_points, search_points, varied
from evo_aar.tracking.record import Point, Trace
from evo_aar.tracking.traces import traces_of
from evo_aar.views.expenses import by
from evo_aar.views.forum_files import finding_text
from population.fitness import Fitness
from population.individual import individual_id
from population.island import Generation
from population.store import Store
from population.tables.integrity import Audit, Review
from population.tables.ledger import LEDGER_KINDS
from recipes.directions import baseline_sources
from recipes.source import source_hash


class SearchView:
    """A search up to generation `number`: what was born after it is left out.

    Reads each recipe's trials once.
    """

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self.generations: list[Generation] = [store.generations.get(each) for each in range(number + 1)]
        self.individuals = {one.id: one for one in store.individuals.all() if one.generation <= number}
        self._fates = sort_fates(store.generations.fates())
        self._scores: dict[str, Scores] = {}

    @property
    def last(self) -> Generation:
        return self.generations[-1]

    def scores(self, source_hash: str) -> Scores:
        if source_hash not in self._scores:
            self._scores[source_hash] = scores_of(self._store, source_hash)
        return self._scores[source_hash]

    def life(self, identity: str) -> Life:
        one = self.individuals[identity]
        parents = tuple(self.individuals[parent] for parent in one.parents)
        expenses = self._expenses.get(identity, {})
        fates, journal = self._fates.get(identity, ()), tuple(self._store.replies.of(identity))
        audits, reviews = self._audits.get(one.source_hash, ()), self._reviews.get(identity, ())
        return Life(one, parents, self.scores(one.source_hash), fates, expenses, journal, audits, reviews)

    def unborn_traces(self, island: int) -> tuple[Trace, ...]:
        """The conversations that came to no child on an island."""
        places = [
            individual_id(generation.number, island, one.child)
            for generation in self.generations
            for one in GenerationRecord.of(generation).state.empty
            if one.island == island
        ]
        return tuple(trace for place in places for trace in traces_of(self._store.replies.of(place)))

    def forum(self) -> str:
        """All findings as Markdown; empty where there are none."""
        return "\n".join(
            finding_text(self._store, one) for one in self._store.forum.as_of(self.last.number + 1)
        )

    def lives(self, identities: tuple[str, ...]) -> list[Life]:
        return [self.life(identity) for identity in identities]

    def touched_since(self, number: int) -> set[str]:
        """Who was born or met a fate after generation `number`."""
        born = {one.id for one in self.individuals.values() if one.generation > number}
        return born | {
            i for i, fates in self._fates.items() if i in self.individuals and fates[-1].generation > number
        }

    def island_points(self) -> dict[int, list[Point]]:
        """Every generation's points, by island."""
        made: dict[int, list[Point]] = {}
        for generation in self.generations:
            for number, added in island_points(generation, self._diversity[generation.number]).items():
                made.setdefault(number, []).extend(added)
        return made

    def search_points(self) -> list[Point]:
        """Every generation's points; what has been spent is known as of now alone."""
        made: list[Point] = []
        for generation in self.generations:
            spent = self._spent if generation is self.last else {}
            made += search_points(generation, self._diversity[generation.number], spent)
        return made

    def best(self) -> list[Life]:
        """The best of each island where somebody lives."""
        return [self.life(island.population[0]) for island in self.last.islands if island.population]

    def baselines(self) -> dict[str, Fitness]:
        """The baselines that have been tried, on whatever seeds they were."""
        found = {}
        for name, source in baseline_sources().items():
            scores = self.scores(source_hash(source))
            fitness = Fitness.of(scores.selected + scores.final)
            if fitness:
                found[name] = fitness
        return found

    def final_table(self) -> list[tuple[str, str | None, Fitness | None]]:
        """Role, individual and fitness on the final seeds; empty before the end."""
        return [
            (one.role, one.individual, one.fitness)
            for one in finalists(self._store, self._store.facts["testbed_hash"])
        ]

    def genealogy(self) -> Genealogy:
        living = {identity for island in self.last.islands for identity in island.population}
        nodes = []
        for identity in self.individuals:
            life = self.life(identity)
            fitness = life.scores.fitness if life.judged else None
            nodes.append(
                Node(
                    individual=life.individual,
                    pgr=fitness.mean if fitness else None,
                    standard_error=fitness.standard_error if fitness else None,
                    fate=life.fate.kind if life.fate else "",
                    alive=identity in living,
                )
            )
        moves = [move for move in self._store.generations.migrations() if move.generation <= self.last.number]
        return Genealogy(tuple(nodes), tuple(moves), tuple(self.generations))

    @cached_property
    def _diversity(self) -> list[dict[int, float | None]]:
        return [
            {island.number: varied(self.lives(island.population)) for island in generation.islands}
            for generation in self.generations
        ]

    @cached_property
    def _audits(self) -> dict[str, tuple[Audit, ...]]:
        found: dict[str, tuple[Audit, ...]] = {}
        for audit in self._store.audits.all():
            if audit.testbed == self._store.facts["testbed_hash"]:
                found[audit.source_hash] = (*found.get(audit.source_hash, ()), audit)
        return found

    @cached_property
    def _reviews(self) -> dict[str, tuple[Review, ...]]:
        found: dict[str, tuple[Review, ...]] = {}
        for review in self._store.reviews.all():
            found[review.individual] = (*found.get(review.individual, ()), review)
        return found

    @cached_property
    def _expenses(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for entry in self._store.ledger.all():
            if entry.individual is not None:
                kinds = found.setdefault(entry.individual, {})
                kinds[entry.kind] = math.fsum((kinds.get(entry.kind, 0.0), entry.amount))
        return found

    @cached_property
    def _spent(self) -> dict[str, float]:
        spent = {kind: amount for kind in LEDGER_KINDS if (amount := self._store.ledger.total(kind))}
        for row in by(self._store, "operator").to_dict("records"):
            spent |= {
                f"usd/{row['operator']}": row["usd"],
                f"cache_hit_rate/{row['operator']}": row["hit_rate"],
            }
        return spent
