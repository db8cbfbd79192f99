"""A recipe's trials, sorted by what their seeds were for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evo_aar.search.seeds import FINAL, FRESH, SPAN
from population.fitness import Fitness
from population.store import Store
from population.trial import FailedTrial, Trial, first_failure


@dataclass(frozen=True)
class Scores:
    """The trials of one recipe on the search's testbed, by seed.

    `selected` are those that selection has seen.
    """

    search: tuple[Trial, ...]
    fresh: tuple[Trial, ...]
    final: tuple[Trial, ...]

    @property
    def selected(self) -> tuple[Trial, ...]:
        return self.search + self.fresh

    @property
    def fitness(self) -> Fitness | None:
        """What selection knows; the final seeds, which nothing was selected on, are told apart."""
        return Fitness.of(self.selected)

    @property
    def final_fitness(self) -> Fitness | None:
        return Fitness.of(self.final)

    @property
    def failure(self) -> FailedTrial | None:
        """The first failed trial."""
        return first_failure(self.selected + self.final)


def step(trial: Trial) -> int:
    """The number of a trial's seed among those of its purpose: 0, 1, 2, ..."""
    return trial.seed % SPAN % FINAL % FRESH


def scores(trials: Iterable[Trial]) -> Scores:
    """Sort the full-fidelity trials of one recipe on one testbed."""
    search: list[Trial] = []
    fresh: list[Trial] = []
    final: list[Trial] = []
    for trial in sorted(trials, key=lambda one: one.seed):
        offset = trial.seed % SPAN
        (final if offset >= FINAL else fresh if offset >= FRESH else search).append(trial)
    return Scores(tuple(search), tuple(fresh), tuple(final))


def scores_of(store: Store, source_hash: str) -> Scores:
    """The scores of a recipe on the testbed of its search."""
    return scores(store.trials.of(source_hash, store.facts["testbed_hash"], 1.0))
