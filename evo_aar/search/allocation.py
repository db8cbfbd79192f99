"""Which operator makes the next child, and with which model: a bandit that credits improvement over the
parents per dollar.

Probability matching with a floor (Thierens 2005, "An adaptive pursuit strategy for allocating operator
probabilities", section 2.1): an arm's probability is proportional to its initial weight times its estimated
gain per cost, and never falls below a floor, so that an arm that was unlucky is heard again. Where nothing
costs money, a birth costs 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evo_aar.search.record import Tally

VERBS = {"mutation": 0.6, "crossover": 0.4}
"""The operators that are chosen between, with their initial weights."""
FLOOR = 0.2
"""The share of all births that is dealt out evenly, whatever the arms have earned."""
PRIOR_BIRTHS = 6.0
"""How many births of average gain and cost an arm is taken to have had before its first."""
ALLOCATIONS = ("bandit", "uniform")


@dataclass(frozen=True)
class Arm:
    """An operator and the model that it calls; `model` is empty for an operator without one."""

    verb: str
    model: str = ""

    @property
    def key(self) -> str:
        return f"{self.verb} {self.model}".strip()


class Allocation:
    """The arms of a search with their tallies as a generation began.

    `choose` draws from the stream that it is given.
    """

    def __init__(
        self, verbs: Iterable[str], models: Sequence[str], tallies: Mapping[str, Tally], kind: str = "bandit"
    ) -> None:
        verbs = [verb for verb in VERBS if verb in set(verbs)]
        self.arms = [Arm(verb, model) for verb in verbs for model in models or ("",)]
        self.tallies = {arm.key: tallies.get(arm.key, Tally()) for arm in self.arms} | dict(tallies)
        self._kind = kind

    def probabilities(self) -> dict[str, float]:
        """By arm, summing to 1."""
        weights = np.array([VERBS[arm.verb] for arm in self.arms])
        weights = weights / weights.sum()
        if self._kind == "bandit":
            own = [self.tallies[arm.key] for arm in self.arms]
            births, gain, usd = (
                sum(getattr(tally, name) for tally in own) for name in ("births", "gain", "usd")
            )
            if births and gain:
                unit = usd / births if usd else 1.0  # the cost of an average birth
                rate = gain / (usd or births)
                costs = np.array([tally.usd if usd else tally.births for tally in own])
                gains = np.array([tally.gain for tally in own])
                worth = (gains + PRIOR_BIRTHS * unit * rate) / (costs + PRIOR_BIRTHS * unit)
                weights = weights * worth / (weights * worth).sum()
            weights = FLOOR / len(self.arms) + (1 - FLOOR) * weights
        else:
            weights = np.full(len(self.arms), 1 / len(self.arms))
        return {arm.key: float(weight) for arm, weight in zip(self.arms, weights, strict=True)}

    def choose(self, stream: np.random.Generator) -> Arm:
        """An arm, drawn with its probability."""
        shares = np.cumsum(list(self.probabilities().values()))
        return self.arms[min(int(np.searchsorted(shares, stream.random(), side="right")), len(self.arms) - 1)]
