"""Births: for every place in a generation which parents, which operator, and the child's source.

Plans are made first, all from islands as they stood when the generation began; then the operator is asked,
for several islands at once where it waits for a language model. A child's course depends on its plan and on
its elder siblings alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evo_aar.search.allocation import Allocation, Arm
from evo_aar.search.operator import Failure, Operator, OperatorContext, OperatorError, Parent, Proposal
from evo_aar.search.selection import Contender, best, parents
from population.individual import Individual, Trial
from population.island import child_stream
from recipes.directions import Direction
from recipes.source import idea, source_hash

ABROAD = 0.3
"""The probability of a crossover's partner being another island's best."""
THIRD = 0.2
"""The probability of a third parent, at home or from abroad, where the operator can make use of one."""

REPAIR_STREAM = 1_000


@dataclass(frozen=True)
class Plan:
    """A place in the generation, and who and what is to fill it."""

    arm: Arm
    context: OperatorContext


@dataclass(frozen=True)
class Birth:
    """A child that an operator proposed. Not born until its source is final.

    `usd` is what all attempts at it have cost; `given_up`: it failed, and its operator saw no remedy.
    """

    arm: Arm
    context: OperatorContext
    proposal: Proposal
    usd: float
    attempt: int = 0
    given_up: bool = False

    @property
    def source_hash(self) -> str:
        return source_hash(self.proposal.source)

    def individual(self) -> Individual:
        """The child as it is born."""
        context, proposal = self.context, self.proposal
        detail = {
            **proposal.detail,
            "direction": context.direction,
            "repairs": self.attempt,
            "arm": self.arm.key,
        }
        if self.usd:
            detail["usd"] = self.usd
        return Individual.born(
            generation=context.generation,
            island=context.island,
            child=context.child,
            source=proposal.source,
            source_hash=self.source_hash,
            operator=f"{proposal.operator} {proposal.detail['verb']}",
            parents=tuple(proposal.detail["parents"]),
            idea=idea(proposal.source),
            detail=detail,
        )


@dataclass(frozen=True)
class Unborn:
    """A place that stays empty, since the operator made no child for it."""

    arm: Arm
    context: OperatorContext
    reason: str
    usd: float
    tries: tuple[Mapping, ...] = ()


class Nursery:
    """Plans a generation's children and has the operator make them.

    `islands` and `archives` are as the last generation left them; `near` says how many children of an
    individual behaved nearly as it does; on `stagnant` islands the first child is a fresh draft, where the
    operator can make one.
    """

    def __init__(
        self,
        operator: Operator,
        allocation: Allocation,
        *,
        seed: int,
        generation: int,
        islands: Mapping[int, Sequence[Contender]],
        archives: Mapping[int, Sequence[Contender]],
        born: frozenset[str],
        near: Mapping[str, int],
        stagnant: frozenset[int] = frozenset(),
    ) -> None:
        self._operator = operator
        self._allocation = allocation
        self._seed = seed
        self._generation = generation
        self._islands = islands
        self._archives = archives
        self._born = born
        self._near = near
        self._stagnant = stagnant

    def plan(self, island: int, direction: Direction, children: int, facts: Mapping) -> list[Plan]:
        """The island's places, in order.

        None where there is neither a parent nor an operator that does without.
        """
        plans = []
        for child in range(children):
            stream = child_stream(self._seed, self._generation, island, child)
            arm = self._allocation.choose(stream)
            chosen = self._parents(island, arm, stream)
            if "draft" in self._operator.verbs and (not chosen or (island in self._stagnant and child == 0)):
                arm = Arm("draft", arm.model)
                chosen = []
            elif not chosen:
                break
            elif len(chosen) == 1:
                arm = Arm("mutation", arm.model)
            context = OperatorContext(
                island=island,
                generation=self._generation,
                child=child,
                direction=direction.name,
                rng=stream,
                parents=tuple(self._as_parent(one) for one in chosen),
                born=self._born,
                brief=direction.brief,
                archive=tuple(self._as_parent(one) for one in self._archives[island]),
                model=arm.model,
                **facts,
            )
            plans.append(Plan(arm, context))
        return plans

    def propose(self, plans: Sequence[Plan]) -> list[Birth | Unborn]:
        """One island's children, one after the other."""
        made: list[Birth | Unborn] = []
        for plan in plans:
            siblings = {one.source_hash for one in made if isinstance(one, Birth)}
            context = replace(plan.context, born=plan.context.born | siblings)
            ask = {"mutation": self._operator.mutate, "crossover": self._operator.crossover}
            try:
                proposal = (
                    self._operator.draft(context) if plan.arm.verb == "draft" else ask[plan.arm.verb](context)
                )
            except OperatorError as error:
                made.append(Unborn(plan.arm, context, str(error), error.usd, tuple(error.tries)))
            else:
                made.append(Birth(plan.arm, context, proposal, proposal.usd))
        return made

    def repair(self, birth: Birth, trial: Trial) -> Birth | None:
        """The child with its failure mended, or None where the operator sees no remedy."""
        attempt = birth.attempt + 1
        context = birth.context
        stream = child_stream(
            self._seed, context.generation, context.island, context.child + attempt * REPAIR_STREAM
        )
        failure = Failure(birth.proposal.source, trial.reason, trial.message or trial.reason, attempt)
        context = replace(context, rng=stream, born=context.born | {birth.source_hash})
        try:
            proposal = self._operator.repair(context, failure)
        except OperatorError as error:
            return replace(birth, usd=birth.usd + error.usd) if error.usd else None
        if proposal is None:
            return None
        if tries := birth.proposal.detail.get("tries"):
            proposal = replace(
                proposal, detail={**proposal.detail, "tries": [*tries, *proposal.detail["tries"]]}
            )
        return Birth(birth.arm, context, proposal, birth.usd + proposal.usd, attempt)

    def _parents(self, island: int, arm: Arm, stream) -> list[Contender]:
        """One parent for a mutation, two or three for a crossover.

        An island where nobody has a fitness takes its parents from the others.
        """
        others = [
            one
            for number, living in sorted(self._islands.items())
            if number != island
            for one in best(living, 1)
        ]
        living = list(self._islands[island]) or others
        if not living:
            return []
        abroad = stream.random() < ABROAD
        (first,) = parents(living, 1, stream, self._near)
        partners = [one for one in (others if abroad else living) if one.id != first.id] or [
            one for one in others if one.id != first.id
        ]
        if arm.verb != "crossover" or not partners:
            return [first]
        chosen = [first, *parents(partners, 1, stream, self._near)]
        taken = {one.id for one in chosen}
        further = [one for one in {one.id: one for one in (*living, *others)}.values() if one.id not in taken]
        if self._operator.most_parents > 2 and further and stream.random() < THIRD:
            chosen += parents(further, 1, stream, self._near)
        return chosen

    def _as_parent(self, one: Contender) -> Parent:
        estimate = one.estimate
        return Parent(
            one.id,
            one.individual.source,
            one.individual.detail.get("direction"),
            estimate.mean,
            estimate.standard_error,
            self._near.get(one.id, 0),
        )
