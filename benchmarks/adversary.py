"""What an adversary learns from scores: adaptive questions against a raw accuracy, a rounded one, the Ladder
as published and this one.

    python benchmarks/adversary.py [--rows 2000] [--questions 5000] [--seeds 3]

The adversary knows the protocol exactly and, unlike any recipe, may choose every single prediction. It plays
each of the strategies below and hands in the labels that it takes to be right. Chance is 0.5.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from evaluator.ladder import Answer, Ladder

Ask = Callable[[np.ndarray], tuple[float, bool]]
"""Predictions [n] of 0 and 1 to what is told of them: a score, and whether it is called a new best."""


class Scored:
    """A score of one kind over hidden `labels` [n]; counts what it is asked."""

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels
        self.questions = 0

    def __call__(self, predictions: np.ndarray) -> tuple[float, bool]:
        self.questions += 1
        return self.told(predictions == self._labels)

    def told(self, correct: np.ndarray) -> tuple[float, bool]:
        raise NotImplementedError


class Raw(Scored):
    """The exact accuracy, and whether it is the highest so far."""

    best = -1.0

    def told(self, correct: np.ndarray) -> tuple[float, bool]:
        accuracy = self.shown(float(correct.mean()))
        improved, self.best = accuracy > self.best, max(self.best, accuracy)
        return accuracy, improved

    def shown(self, accuracy: float) -> float:
        return accuracy


class Rounded(Raw):
    """The accuracy to two decimals."""

    def shown(self, accuracy: float) -> float:
        return round(accuracy, 2)


class Published(Scored):
    """The parameter-free Ladder as Blum and Hardt 2015 print it: one standard error of the paired difference,
    told to 1/n.
    """

    best: np.ndarray | None = None

    def told(self, correct: np.ndarray) -> tuple[float, bool]:
        correct, improved = correct.astype(float), True
        if self.best is not None:
            difference = correct - self.best
            improved = bool(difference.mean() > difference.std(ddof=1) / math.sqrt(len(difference)) + 1e-12)
        if improved:
            self.best = correct
        return float(self.best.mean()), improved


class Ours(Scored):
    """`evaluator.ladder`."""

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__(labels)
        self._ladder = Ladder()

    def told(self, correct: np.ndarray) -> tuple[float, bool]:
        self._ladder, answer = self._ladder.ask(correct)
        assert isinstance(answer, Answer)
        return answer


def one_by_one(ask: Ask, size: int, questions: int, rng: np.random.Generator) -> np.ndarray:
    """Flip one prediction at a time, and keep what scores better."""
    return _climb(ask, size, questions, rng, 1)


def pairs(ask: Ask, size: int, questions: int, rng: np.random.Generator) -> np.ndarray:
    """Flip two at a time: both right gains 2/n, more than the standard error of such a difference."""
    return _climb(ask, size, questions, rng, 2)


def blocks(ask: Ask, size: int, questions: int, rng: np.random.Generator) -> np.ndarray:
    """Flip as many at a time as move the score by about two of its standard errors."""
    return _climb(ask, size, questions, rng, max(3, size // 16))


def vote(ask: Ask, size: int, questions: int, rng: np.random.Generator) -> np.ndarray:
    """Random guesses; the majority of those that scored above the middle of all, the others turned round
    (Blum and Hardt, section 4).
    """
    guesses = rng.integers(0, 2, (questions, size), dtype=np.int8)
    scores = np.array([ask(guess)[0] for guess in guesses])
    return (np.sign(scores - np.median(scores)) @ (2.0 * guesses - 1) > 0).astype(np.int8)


def votes_of_new_bests(ask: Ask, size: int, questions: int, rng: np.random.Generator) -> np.ndarray:
    """Random guesses; the majority of those that were called a new best."""
    guesses = rng.integers(0, 2, (questions, size), dtype=np.int8)
    called = np.array([ask(guess)[1] for guess in guesses])
    return (called @ (2.0 * guesses - 1) > 0).astype(np.int8)


def _climb(ask: Ask, size: int, questions: int, rng: np.random.Generator, block: int) -> np.ndarray:
    """From random predictions, flip `block` at a time, in a shuffled order over and over, and keep each
    change that is called a new best.
    """
    kept = rng.integers(0, 2, size, dtype=np.int8)
    ask(kept)
    order = np.empty(0, int)
    for _ in range(questions - 1):
        if len(order) < block:
            order = rng.permutation(size)
        rows, order = order[:block], order[block:]
        changed = kept.copy()
        changed[rows] ^= 1
        if ask(changed)[1]:
            kept = changed
    return kept


SCORES = {
    "raw accuracy": Raw,
    "accuracy to 0.01": Rounded,
    "Ladder as published": Published,
    "Ladder here": Ours,
}
STRATEGIES = (one_by_one, pairs, blocks, vote, votes_of_new_bests)


def recovered(score: type[Scored], strategy: Callable, size: int, questions: int, seed: int) -> float:
    """The share of hidden labels that a strategy gets right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size, dtype=np.int8)
    ask = score(labels)
    found = strategy(ask, size, questions, rng)
    assert ask.questions <= questions
    return float((found == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    print(
        f"labels recovered by {chosen.questions:,} questions about {chosen.rows:,} rows, highest of"
        f" {chosen.seeds} seeds; chance 0.5\n"
    )
    print(f"| | {' | '.join(SCORES)} |\n| --- |{' --- |' * len(SCORES)}")
    for strategy in STRATEGIES:
        shares = [
            max(
                recovered(score, strategy, chosen.rows, chosen.questions, seed)
                for seed in range(chosen.seeds)
            )
            for score in SCORES.values()
        ]
        print(
            f"| {strategy.__name__.replace('_', ' ')} | {' | '.join(f'{share:.3f}' for share in shares)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
