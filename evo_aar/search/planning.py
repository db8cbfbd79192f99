"""Plans of a generation: for every place which operator makes the child, with which model, from which
parents.

All plans are made before anybody is asked, from islands as they stood when the generation began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evo_aar.search.allocation import Allocation, Arm
from evo_aar.search.operator import Operator, OperatorContext, Parent
from evo_aar.search.record import direction_of
from evo_aar.search.selection import Contender, Selection, best
from population.island import child_stream
from recipes.directions import Direction

ABROAD = 0.3
"""The probability of a crossover's partner being another island's best."""
THIRD = 0.2
"""The probability of a third parent, at home or from abroad, where the operator can make use of one."""


@dataclass(frozen=True)
class Surroundings:
    """What a testbed offers to recipes, as operators are told: layers on offer, whether there is a prior."""

    layers: tuple[int, ...]
    has_prior: bool


@dataclass(frozen=True)
class Plan:
    """A place in the generation, and who and what is to fill it."""

    arm: Arm
    context: OperatorContext


class Planner:
    """Plans a generation's children.

    `islands` and `archives` are as the last generation left them; `near` says how many children of an
    individual behaved nearly as it does; on `stagnant` islands the first child is a fresh draft, where the
    operator can make one; `born`: the source hashes of everybody so far.
    """

    def __init__(
        self,
        operator: Operator,
        allocation: Allocation,
        scheme: Selection,
        *,
        seed: int,
        generation: int,
        islands: Mapping[int, Sequence[Contender]],
        archives: Mapping[int, Sequence[Contender]],
        born: frozenset[str],
        near: Mapping[str, int],
        stagnant: frozenset[int],
        surroundings: Surroundings,
    ) -> None:
        self._operator = operator
        self._allocation = allocation
        self._scheme = scheme
        self._seed = seed
        self._generation = generation
        self._islands = islands
        self._archives = archives
        self._born = born
        self._near = near
        self._stagnant = stagnant
        self._surroundings = surroundings

    def plans(self, island: int, direction: Direction, children: int) -> list[Plan]:
        """The island's places, in order. None where there is neither a parent nor an operator that
        does without.
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
                layers=self._surroundings.layers,
                has_prior=self._surroundings.has_prior,
            )
            plans.append(Plan(arm, context))
        return plans

    def _parents(self, island: int, arm: Arm, stream: np.random.Generator) -> list[Contender]:
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
        (first,) = self._scheme.parents(living, 1, stream, self._near)
        partners = [one for one in (others if abroad else living) if one.id != first.id]
        partners = partners or [one for one in others if one.id != first.id]
        if arm.verb != "crossover" or not partners:
            return [first]
        chosen = [first, *self._scheme.parents(partners, 1, stream, self._near)]
        taken = {one.id for one in chosen}
        further = [one for one in {one.id: one for one in (*living, *others)}.values() if one.id not in taken]
        if self._operator.most_parents > 2 and further and stream.random() < THIRD:
            chosen += self._scheme.parents(further, 1, stream, self._near)
        return chosen

    def _as_parent(self, one: Contender) -> Parent:
        individual = one.individual
        return Parent(one.id, individual.source, direction_of(individual), self._near.get(one.id, 0))
