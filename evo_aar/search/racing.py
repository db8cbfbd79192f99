"""Racing: a child that will hardly live is not tried on all seeds.

Every child gets the first rung, one seed; whoever is still in the race gets three times as many on the next,
until all seeds are spent. A child leaves once it is clearly behind as many others as its island has places,
incumbents and other children: selection takes the best for the places, so this one would hardly get one; it
might where near-duplicates are among the others, which selection drops and the race does not see. "Clearly"
is a one-sided test on differences paired by seed, as in Maron and Moore's races (1994), in F-Race, where
seeds are blocks (Birattari et al. 2002), and in races for the best mu of lambda (Heidrich-Meisner and Igel
2009).

Who leaves is a function of trials on record, of incumbents and seeds: not of which trial ended first.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np

from evo_aar.search.trials import Candidate, TrialRunner
from population.fitness import paired_difference
from population.trial import Trial, successful

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

    From the residuals of PGR on recipe and seed (two-way layout without interaction) over the recipes that
    succeeded on all `seeds`; None where there are fewer than two of them, or of the seeds.
    """
    table = []
    for trials in groups:
        scores = {trial.seed: trial.pgr for trial in successful(trials)}
        if all(seed in scores for seed in seeds):
            table.append([scores[seed] for seed in seeds])
    if len(table) < 2 or len(seeds) < 2:
        return None
    values = np.array(table)
    residuals = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    freedom = (len(table) - 1) * (len(seeds) - 1)
    return math.sqrt(2 * float(np.square(residuals).sum()) / freedom)


class Race:
    """One generation's race.

    `incumbents`: by island, the trials of each recipe that lives there, all on all `seeds`; `places`: of an
    island.
    """

    def __init__(
        self, incumbents: Mapping[int, Sequence[Sequence[Trial]]], seeds: Sequence[int], places: int
    ) -> None:
        self._seeds = list(seeds)
        self._places = places
        self._deviation = paired_deviation((one for groups in incumbents.values() for one in groups), seeds)
        self._incumbents = incumbents

    def run(self, trials: TrialRunner, heats: Iterable[Sequence[Candidate]]) -> None:
        """Try the candidates of all heats, rung by rung; who has failed, or has left, is tried no further.

        A heat are candidates of one island that race against one another besides its incumbents. Who is in
        one must not depend on timing.
        """
        running = [list(heat) for heat in heats]
        for count in rungs(len(self._seeds)):
            trials.ensure([one for heat in running for one in heat], self._seeds[:count])
            for number, heat in enumerate(running):
                if heat:
                    stays = self.stay(heat[0].island, [trials.of(one.source_hash) for one in heat], count)
                    running[number] = [one for one, stay in zip(heat, stays, strict=True) if stay]

    def stay(self, island: int | None, heat: Sequence[Iterable[Trial]], count: int) -> list[bool]:
        """Whether each of a heat, given by its trials, is still in the race after the first `count` seeds."""
        first = set(self._seeds[:count])
        incumbents = [] if island is None else self._incumbents.get(island, [])
        own = [[trial for trial in trials if trial.seed in first] for trials in heat]
        sound = [all(trial.ok for trial in trials) for trials in own]
        if self._deviation is None:
            return sound
        racing = [trials for trials, ok in zip(own, sound, strict=True) if ok]
        ranked = sorted([*racing, *map(list, incumbents)], key=lambda one: -_mean(one, first))

        def leaves(trials: list[Trial]) -> bool:
            others = [one for one in ranked if one is not trials]
            return len(others) >= self._places and self._behind(trials, others[self._places - 1])

        return [ok and not leaves(trials) for trials, ok in zip(own, sound, strict=True)]

    def _behind(self, own: Sequence[Trial], other: Sequence[Trial]) -> bool:
        difference = paired_difference(own, other)
        if difference is None or self._deviation is None:
            return False
        return difference.mean < -CRITICAL * self._deviation / math.sqrt(difference.pairs)


def _mean(trials: Iterable[Trial], seeds: Container[int]) -> float:
    scores = [trial.pgr for trial in successful(trials) if trial.seed in seeds]
    return math.fsum(scores) / len(scores) if scores else -math.inf
