"""Selection: who breeds and who lives, on DEAP's fitness and selection.

A scheme is an object with a name, `register`ed; the setting `selection` of a search names it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from deap import base, tools

from evaluator import plugins
from evo_aar.errors import UsageError
from population.behaviour import NEAR_DUPLICATE, distance
from population.fitness import Fitness
from population.individual import Individual


class Worth(base.Fitness):
    """What selection compares, to be maximised. Invalid, not 0.0, until there is one."""

    weights = (1.0,)


@dataclass(eq=False)
class Contender:
    """An individual with a fitness. One that failed never becomes a contender.

    `estimate`: PGR over its trials; `behaviour`: its mean predictions on the training pool, [n].
    """

    individual: Individual
    estimate: Fitness
    behaviour: np.ndarray
    fitness: Worth = field(default_factory=Worth)

    @property
    def id(self) -> str:
        return self.individual.id


class Selection(Protocol):
    """A scheme. `name` is what the setting says."""

    @property
    def name(self) -> str: ...

    def worth(self, estimate: Fitness, deviation: float) -> float:
        """What an estimate counts for.

        `deviation`: of PGR over seeds, pooled over all recipes of the search.
        """
        ...

    def parents(
        self,
        contenders: Sequence[Contender],
        count: int,
        stream: np.random.Generator,
        near: Mapping[str, int],
    ) -> list[Contender]:
        """`count` of them, with repetition. `near`: how many children of an individual behaved as it does."""
        ...

    def survivors(self, contenders: Iterable[Contender], size: int) -> list[Contender]:
        """At most `size` of them, best first."""
        ...


class LowerBound:
    """Lower confidence bounds: mean PGR less the standard error that a mean over that many seeds has.

    The deviation over seeds is pooled: an estimate from three seeds of one recipe would reward whoever was
    lucky in its spread.
    """

    name = "lower-bound"

    def worth(self, estimate: Fitness, deviation: float) -> float:
        return estimate.mean - deviation / math.sqrt(estimate.trials)

    def parents(
        self,
        contenders: Sequence[Contender],
        count: int,
        stream: np.random.Generator,
        near: Mapping[str, int],
    ) -> list[Contender]:
        """A tournament of two; who has had k near-duplicates takes part 1 / (1 + k) times as often."""
        with deap_random(stream):
            entrants = [one for one in contenders if stream.random() * (1 + near.get(one.id, 0)) < 1]
            return tools.selTournament(entrants or list(contenders), count, tournsize=2)

    def survivors(self, contenders: Iterable[Contender], size: int) -> list[Contender]:
        """The best that differ in behaviour: of two near-duplicates the better one lives."""
        kept: list[Contender] = []
        for one in best(contenders):
            if len(kept) < size and all(
                distance(one.behaviour, other.behaviour) >= NEAR_DUPLICATE for other in kept
            ):
                kept.append(one)
        return kept


def best(contenders: Iterable[Contender], count: int | None = None) -> list[Contender]:
    """The `count` of most worth (default: all), best first, the earlier born first among equals."""
    ranked = sorted(contenders, key=lambda one: one.individual.rank)
    return tools.selBest(ranked, len(ranked) if count is None else count)


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


_SCHEMES: dict[str, Selection] = {}


def register(scheme: Selection) -> None:
    """Make a scheme known under its name."""
    _SCHEMES[scheme.name] = scheme


def scheme_named(name: str) -> Selection:
    """Raises `UsageError` where no such scheme is registered."""
    plugins.load()
    try:
        return _SCHEMES[name]
    except KeyError:
        raise UsageError(f"--selection {name}: unknown. Schemes: {', '.join(sorted(_SCHEMES))}.") from None


register(LowerBound())
