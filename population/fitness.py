"""How well a recipe does, and how sure we are of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from population.errors import PopulationError
from population.trial import Trial, successful


class Difference(NamedTuple):
    """The mean of paired differences, its standard error (None for a single pair) and the number of pairs."""

    mean: float
    standard_error: float | None
    pairs: int


@dataclass(frozen=True)
class Fitness:
    """Mean PGR over a recipe's trials, with its standard error: the sample deviation over sqrt(trials), None
    for one trial.
    """

    mean: float
    standard_error: float | None
    trials: int

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Fitness | None:
        """The fitness that these trials of one recipe give; None where there are none or one of them failed.

        Raises PopulationError where they are not of one recipe, testbed and fidelity, or a seed comes twice.
        """
        everyone = list(trials)
        sound = successful(everyone)
        if not sound or len(sound) < len(everyone):
            return None
        kinds = {(trial.source_hash, trial.testbed, trial.fidelity) for trial in sound}
        if len(kinds) > 1 or len({trial.seed for trial in sound}) < len(sound):
            raise PopulationError(
                "a fitness is over distinct seeds of one recipe, testbed and fidelity. Choose the trials"
                " accordingly."
            )
        return cls(*_mean_and_error([trial.pgr for trial in sound]), len(sound))


def paired_difference(a: Iterable[Trial], b: Iterable[Trial]) -> Difference | None:
    """PGR of recipe `a` minus that of `b`, over the seeds in which both succeeded; None without such a seed.

    Pairing cancels what the two share in a seed; the standard error is that of the mean of the differences.
    Raises PopulationError where the two were not tried on one testbed and at one fidelity.
    """
    sides = list(a), list(b)
    if len({(trial.testbed, trial.fidelity) for side in sides for trial in side}) > 1:
        raise PopulationError(
            "paired trials are of one testbed and one fidelity. Choose the trials accordingly."
        )
    first, second = ({trial.seed: trial.pgr for trial in successful(side)} for side in sides)
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return Difference(*_mean_and_error([first[seed] - second[seed] for seed in seeds]), len(seeds))


def _mean_and_error(values: list[float]) -> tuple[float, float | None]:
    # fsum is exact whatever the order: the same trials give the same fitness, bit for bit.
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
