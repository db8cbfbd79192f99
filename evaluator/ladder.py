"""The Ladder: how a score may be told, question after question, without telling the labels behind it.

The mechanism is the Ladder of Blum and Hardt 2015, "The Ladder: A Reliable Leaderboard for Machine Learning
Competitions", in the paired, parameter-free form of their section 4: what is told is the best score so far,
and it moves only when a question beats that best by more than the standard error of the difference, example
by example.

Their threshold is one standard error, whatever has been asked before. That is not enough against one who
chooses predictions row by row: two flipped predictions that are both right gain 2/n at a standard error of
about 1.4/n, so an adversary learns the labels pair by pair (`benchmarks/adversary.py`). Here the threshold is
a number of standard errors that grows with the questions asked, such that all of them together, however they
are chosen, have a chance of at most `level` to move a best by luck:

    gain > z * sqrt(sum of squared differences) / n,   3.18 * (1 - normal cdf(z)) = level / (t * (t + 1))

at the t-th question.

For whom the labels are coin tosses, differences have random signs, and 3.18 bounds the tail of such a sum by
the normal one's (Bentkus and Dzindzalieta 2015, "A tight Gaussian bound for weighted sums of Rademacher
random variables"). As long as nothing moves, every answer is the same one, and nothing has been learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

LEVEL = 0.05
RADEMACHER = 3.18


class Answer(NamedTuple):
    """What may be told of a question: the best accuracy so far, in whole steps, and whether this question has
    made it.
    """

    accuracy: float
    improved: bool


@dataclass(frozen=True, eq=False)
class Ladder:
    """The state between two questions.

    `best` [n] float: each example's share of seeds that were right; None before the first question.
    """

    level: float = LEVEL
    questions: int = 0
    best: np.ndarray | None = None

    @staticmethod
    def step(size: int) -> float:
        """The resolution of what is told: the largest standard error that an accuracy over `size` examples
        can have.
        """
        return 0.5 / math.sqrt(size)

    def ask(self, correct: np.ndarray) -> tuple[Ladder, Answer]:
        """The next state, and what may be told of `correct` [n]: by example, right (1), wrong (0), or the
        share of seeds that were right.
        """
        correct = np.asarray(correct, np.float64)
        asked = replace(self, questions=self.questions + 1)
        if self.best is not None and not self._improves(correct, asked.questions):
            return asked, Answer(_told(self.best), False)
        return replace(asked, best=correct), Answer(_told(correct), True)

    def _improves(self, correct: np.ndarray, questions: int) -> bool:
        difference = correct - self.best
        error = math.sqrt(float((difference**2).sum())) / len(difference)
        return float(difference.mean()) > critical(self.level, questions) * error


def critical(level: float, questions: int) -> float:
    """How many standard errors a difference has to exceed at the `questions`-th question."""
    return float(norm.isf(level / (questions * (questions + 1)) / RADEMACHER))


def _told(correct: np.ndarray) -> float:
    step = Ladder.step(len(correct))
    return round(float(correct.mean()) / step) * step
