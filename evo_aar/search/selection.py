"""Who breeds and who lives, on DEAP's fitness and selection.

Selection compares lower confidence bounds: mean PGR less the standard error that a mean over that many seeds
has. The deviation over seeds is pooled over all recipes of the search: an estimate from three seeds of one
recipe would reward whoever was lucky in its spread.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from deap import base, tools

from population.behaviour import behaviour, distance
from population.individual import Fitness, Individual, Trial

NEAR = 0.02
"""Mean absolute difference of pool predictions below which two recipes count as one behaviour."""


class Bound(base.Fitness):
    """A lower confidence bound of mean PGR, to be maximised. Invalid, not 0.0, until there is one."""

    weights = (1.0,)


@dataclass(eq=False)
class Contender:
    """An individual with a fitness. One that failed never becomes a contender."""

    individual: Individual
    estimate: Fitness
    behaviour: np.ndarray
    fitness: Bound = field(default_factory=Bound)

    @property
    def id(self) -> str:
        return self.individual.id


def pooled_deviation(groups: Iterable[Sequence[Trial]]) -> float:
    """The deviation of PGR over seeds, pooled over recipes; 0.0 where no recipe has two successful trials."""
    squares, freedom = 0.0, 0
    for trials in groups:
        values = [trial.pgr for trial in trials if trial.ok]
        if len(values) > 1:
            squares += float(np.var(values)) * len(values)
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def contender(
    individual: Individual, trials: Sequence[Trial], deviation: float, seeds: int
) -> Contender | None:
    """The individual as a contender, or None where it has no fitness, or was tried on fewer than `seeds`
    seeds: it was raced out.
    """
    estimate = Fitness.of(trials)
    if estimate is None or estimate.trials < seeds:
        return None
    made = Contender(individual, estimate, behaviour(trials))
    made.fitness.values = (estimate.mean - deviation / math.sqrt(estimate.trials),)
    return made


@contextmanager
def deap_random(stream: np.random.Generator) -> Iterator[None]:
    """DEAP's operators draw from the global generator: lend it a state from `stream`, and give it back
    untouched.
    """
    kept = random.getstate()
    random.seed(int(stream.integers(2**63)))
    try:
        yield
    finally:
        random.setstate(kept)


def parents(
    contenders: Sequence[Contender], count: int, stream: np.random.Generator, near: Mapping[str, int]
) -> list[Contender]:
    """Tournament selection among two; who has had k children that behave nearly as itself (`near`) takes part
    1 / (1 + k) times as often.
    """
    with deap_random(stream):
        entrants = [one for one in contenders if stream.random() * (1 + near.get(one.id, 0)) < 1] or list(
            contenders
        )
        return tools.selTournament(entrants, count, tournsize=2)


def best(contenders: Iterable[Contender], count: int) -> list[Contender]:
    """The best by their bounds, the earlier born first among equals."""
    return tools.selBest(sorted(contenders, key=lambda one: one.individual.rank), count)


def survivors(contenders: Iterable[Contender], size: int) -> list[Contender]:
    """The best that differ in behaviour: of two near-duplicates the better one lives."""
    kept: list[Contender] = []
    ranked = best(contenders := list(contenders), len(contenders))
    for one in ranked:
        if len(kept) < size and all(distance(one.behaviour, other.behaviour) >= NEAR for other in kept):
            kept.append(one)
    return kept
