"""Racing: a child that can't win a place on its island is not tried on all seeds.

Every child gets the first rung, one seed; whoever is still in the race gets three times as many on the next, as in successive
halving (Jamieson and Talwalkar 2016), until all seeds are spent. A child leaves the race when its island is full and every one of
the incumbents is ahead of it by a one-sided test on differences paired by seed, as in Maron and Moore's races (1994) and in F-Race, where
seeds are blocks (Birattari et al. 2002). So what leaves is what would hardly have lived.

Who leaves is a function of trials on record, of incumbents and seeds: not of which trial ended first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evo_aar.trials import Candidate, Trials
from population.individual import Trial, paired_difference

GROWTH = 3
CRITICAL = 1.645
"""Standard errors of a paired difference: the normal distribution's 5% on one side."""


def rungs(seeds: int) -> list[int]:
    """How many seeds a recipe in the race has been tried on after each rung: 1, 3, 9, ..., all."""
    made = [1]
    while made[-1] * GROWTH < seeds:
        made.append(made[-1] * GROWTH)
    return made if seeds == 1 else [*made, seeds]


def paired_deviation(groups: Iterable[Sequence[Trial]], seeds: Sequence[int]) -> float | None:
    """The deviation over seeds of a difference in PGR between two recipes of the same seeds.

    From the residuals of PGR on recipe and seed (two-way layout without interaction) over the recipes that succeeded on all `seeds`; None where
    there are fewer than two of them, or of the seeds.
    """
    table = []
    for trials in groups:
        scores = {trial.seed: trial.pgr for trial in trials if trial.ok}
        if all(seed in scores for seed in seeds):
            table.append([scores[seed] for seed in seeds])
    if len(table) < 2 or len(seeds) < 2:
        return None
    values = np.array(table)
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    freedom = (len(table) - 1) * (len(seeds) - 1)
    return math.sqrt(2 * float(np.square(residuals).sum()) / freedom)


class Race:
    """One generation's race. `incumbents`: by island, the trials of each recipe that lives there; `places`: how many can live."""

    def __init__(self, incumbents: Mapping[int, Sequence[Sequence[Trial]]], places: int, seeds: Sequence[int]) -> None:
        self._incumbents = {island: list(groups) for island, groups in incumbents.items()}
        self._places = places
        self._seeds = list(seeds)
        self._deviation = paired_deviation((one for groups in self._incumbents.values() for one in groups), seeds)

    def run(self, trials: Trials, candidates: Iterable[Candidate]) -> None:
        """Try the candidates, rung by rung; who has failed or is hopelessly behind is tried no further."""
        running = list(candidates)
        for count in rungs(len(self._seeds)):
            trials.ensure(running, self._seeds[:count])
            running = [one for one in running if self.stays(one.island, trials.of(one.source_hash), count)]

    def stays(self, island: int, trials: Iterable[Trial], count: int) -> bool:
        """Whether a child with these trials is still in the race after the first `count` seeds."""
        own = [trial for trial in trials if trial.seed in self._seeds[:count]]
        if not all(trial.ok for trial in own):
            return False
        incumbents = self._incumbents.get(island, [])
        if self._deviation is None or len(incumbents) < self._places:
            return True
        return not all(self._behind(own, one) for one in incumbents)

    def _behind(self, own: Sequence[Trial], incumbent: Sequence[Trial]) -> bool:
        difference = paired_difference(own, incumbent)
        return bool(difference.pairs) and difference.mean < -CRITICAL * self._deviation / math.sqrt(difference.pairs)
