"""Births: which parents, which operator, and the child's source, for every place in a generation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evo_aar.operators.base import Failure, Operator, OperatorContext, OperatorError, Parent, Proposal
from evo_aar.selection import Contender, best, parents
from population.individual import Individual, Trial
from population.island import child_stream
from recipes.directions import Direction
from recipes.source import idea, source_hash

CROSSOVER = 0.4
ABROAD = 0.3
"""The probabilities of a crossover, and of a crossover's partner being another island's best."""

REPAIR_STREAM = 1_000


@dataclass(frozen=True)
class Birth:
    """A child that an operator proposed: its place, how it was made, its source. Not born until its source is final."""

    context: OperatorContext
    proposal: Proposal
    attempt: int = 0

    @property
    def source_hash(self) -> str:
        return source_hash(self.proposal.source)

    def individual(self) -> Individual:
        """The child as it is born."""
        context, proposal = self.context, self.proposal
        return Individual.born(
            generation=context.generation,
            island=context.island,
            child=context.child,
            source=proposal.source,
            source_hash=self.source_hash,
            operator=f"{proposal.operator} {proposal.detail['verb']}",
            parents=tuple(proposal.detail["parents"]),
            idea=idea(proposal.source),
            detail={**proposal.detail, "direction": context.direction, "repairs": self.attempt},
        )


class Nursery:
    """Makes a generation's children, from islands as they stood when it began."""

    def __init__(
        self, operator: Operator, seed: int, generation: int, islands: Mapping[int, Sequence[Contender]], born: frozenset[str]
    ) -> None:
        self._operator = operator
        self._seed = seed
        self._generation = generation
        self._islands = islands
        self._born = born

    def propose(self, island: int, direction: Direction, children: int, facts: Mapping) -> list[Birth]:
        """The island's children, in order. A place where the operator finds none stays empty."""
        births: list[Birth] = []
        for child in range(children):
            stream = child_stream(self._seed, self._generation, island, child)
            born = self._born | {birth.source_hash for birth in births}
            chosen = self._parents(island, stream)
            if not chosen:
                return births
            context = OperatorContext(
                island=island,
                generation=self._generation,
                child=child,
                direction=direction.name,
                rng=stream,
                parents=tuple(_as_parent(one) for one in chosen),
                born=born,
                brief=direction.brief,
                **facts,
            )
            try:
                proposal = self._operator.crossover(context) if len(chosen) > 1 else self._operator.mutate(context)
            except OperatorError:
                continue
            births.append(Birth(context, proposal))
        return births

    def repair(self, birth: Birth, trial: Trial) -> Birth | None:
        """The child with its failure mended, or None where the operator sees no remedy."""
        attempt = birth.attempt + 1
        context = birth.context
        stream = child_stream(self._seed, context.generation, context.island, context.child + attempt * REPAIR_STREAM)
        line = re.search(r"\(recipe\.py, line (\d+)\)", trial.message or "")
        failure = Failure(
            birth.proposal.source, trial.message or trial.reason, int(line[1]) if line else None, trial.reason == "budget"
        )
        context = replace(context, rng=stream, born=context.born | {birth.source_hash})
        try:
            proposal = self._operator.repair(context, failure)
        except OperatorError:
            return None
        if proposal is None or "parents" not in proposal.detail:
            return None
        return Birth(context, proposal, attempt)

    def _parents(self, island: int, stream) -> list[Contender]:
        """One parent for a mutation, two for a crossover. An island where nobody has a fitness takes its parents from the others."""
        others = [one for number, living in sorted(self._islands.items()) if number != island for one in best(living, 1)]
        living = list(self._islands[island]) or others
        if not living:
            return []
        crossing, abroad = stream.random() < CROSSOVER, stream.random() < ABROAD
        (first,) = parents(living, 1, stream)
        partners = [one for one in (others if abroad else living) if one.id != first.id] or [
            one for one in others if one.id != first.id
        ]
        if not crossing or not partners:
            return [first]
        return [first, *parents(partners, 1, stream)]


def _as_parent(one: Contender) -> Parent:
    estimate = one.estimate
    return Parent(one.id, one.individual.source, one.individual.detail.get("direction"), estimate.mean, estimate.standard_error)
