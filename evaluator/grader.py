"""The grader: the one place that holds ground truth during a search.

What leaves it is a score, and every question is counted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluator.testbeds.prepared import load_labels


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows [n, 2] whose larger probability is the label's [n]. A tie counts as class 0."""
    return float((probabilities.argmax(1) == labels).mean())


class Grader:
    """Scores predictions on one split: "fitness", or "sealed" for a search's report alone."""

    def __init__(self, testbed_path: Path, split: str = "fitness") -> None:
        self._path = testbed_path
        self.split = split
        self._labels = load_labels(testbed_path, split)
        self.questions = 0

    def correct(self, probabilities: np.ndarray) -> np.ndarray:
        """[m] bool: which rows of the split [m, 2] probabilities get right.

        For the engine's own record, never for an operator.
        """
        if probabilities.shape != (len(self._labels), 2):
            raise ValueError(f"predictions of shape {probabilities.shape} for {len(self._labels)} rows")
        self.questions += 1
        return probabilities.argmax(1) == self._labels

    def score(self, probabilities: np.ndarray) -> float:
        """Accuracy on the split of [m, 2] probabilities."""
        return float(self.correct(probabilities).mean())

    def weak_accuracies(self) -> list[float]:
        """Accuracy on the split of the weak model, by its seeds."""
        predictions = load_labels(self._path, f"weak_{self.split}")
        return [float(((one > 0.5) == self._labels).mean()) for one in predictions]

    def majority(self) -> float:
        """Accuracy of always answering the commoner class."""
        return float(max(self._labels.mean(), 1 - self._labels.mean()))

    def ensemble_accuracies(self, probabilities: np.ndarray, members: int, subsets: int = 20) -> list[float]:
        """Accuracy on the split of the mean of `members` of the [seeds, m] P(class 1), for random subsets of
        the seeds.
        """
        rng = np.random.default_rng([members, subsets])
        chosen = [rng.choice(len(probabilities), members, replace=False) for _ in range(subsets)]
        return [float(((probabilities[seeds].mean(0) > 0.5) == self._labels).mean()) for seeds in chosen]

    def ceiling_targets(self) -> np.ndarray:
        """[n] ground truth of the training pool, for the ceiling's trainings alone."""
        return load_labels(self._path, "train")
