"""An island's archive: the best ever born there that differ in behaviour, whether they live or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from population.behaviour import NEAR_DUPLICATE, distance
from population.errors import PopulationError
from population.fitness import Fitness
from population.individual import Individual


class Eligible(Protocol):
    """Who may enter an archive: an individual with its fitness and its pool predictions [n]
    (`population.behaviour`).
    """

    @property
    def individual(self) -> Individual: ...

    @property
    def estimate(self) -> Fitness: ...

    @property
    def behaviour(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Archive:
    """The rule of an archive: at most `size` individuals, no two of which are nearer than `threshold` in
    behaviour.
    """

    size: int
    threshold: float = NEAR_DUPLICATE

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.threshold <= 1:
            raise PopulationError(
                f"an archive of {self.size} with threshold {self.threshold} cannot be. Give a size above 0, a"
                " threshold in [0, 1]."
            )

    def choose(self, candidates: Iterable[Eligible]) -> tuple[str, ...]:
        """The ids that the archive holds, best first, given all who were ever born on the island and have a
        fitness.

        From the best down (mean PGR, then the earlier birth), whoever is nearer than the threshold to one
        already chosen is a near-duplicate of a better one and stays out. A function of the candidates alone:
        neither the order in which they come nor the archives before matter, so a fitness that more trials
        have corrected is corrected here too.
        """
        chosen: list[Eligible] = []
        for candidate in sorted(candidates, key=lambda each: (-each.estimate.mean, each.individual.rank)):
            if len(chosen) == self.size:
                break
            if all(distance(candidate.behaviour, better.behaviour) >= self.threshold for better in chosen):
                chosen.append(candidate)
        return tuple(candidate.individual.id for candidate in chosen)
